#!/usr/bin/env bash
# The bundled model from nothing, in about an hour on two H100s; more GPUs see more clips.
#
#     training/make.sh WORK [STAGE...]     all stages where none is named
#     training/make.sh WORK captioner package_captioner     the captioner, on its own
#
# Every stage writes WORK/<stage> with its log, and goes on from its checkpoint when RESUME=1.
set -euo pipefail

work=${1:?usage: training/make.sh WORK [STAGE...]}
shift
stages=${*:-judge reader codec dataset teacher student tune package check}
gpus=${GPUS:-$(python3 -c 'import torch; print(max(1, torch.cuda.device_count()))')}
# Seconds for each stage, and after how many to leave it for a later RESUME=1.
: "${JUDGE:=300}" "${READER:=90}" "${CODEC:=700}" "${DATASET:=120}" "${TEACHER:=1500}"
: "${STUDENT:=600}" "${TUNE:=400}" "${CAPTIONER:=1200}"
: "${PAUSE:=}" "${RESUME:=}"
# The folder this is called from may hold one named `longtake`, which is not the package.
export PYTHONSAFEPATH=1

alone() { python3 -m "longtake.training.$1" "${@:2}"; }
together() {
    torchrun --standalone --nproc-per-node "$gpus" -m "longtake.training.$1" "${@:2}"
}

for stage in $stages; do
    out=$work/$stage
    budget=${stage^^}
    timed=(--out "$out" --seconds "${!budget:-0}" ${PAUSE:+--pause "$PAUSE"} ${RESUME:+--resume})
    case $stage in
    judge) alone judge "${timed[@]}" ;;
    reader) alone reader "${timed[@]}" ;;
    codec) together codec "${timed[@]}" --judge "$work/judge" ;;
    dataset) together dataset --out "$out" --codec "$work/codec" --seconds "$DATASET" ;;
    teacher)
        together generator "${timed[@]}" --data "$work/dataset" --reader "$work/reader"
        ;;
    student)
        together generator "${timed[@]}" --data "$work/dataset" --teacher "$work/teacher"
        ;;
    tune)
        together tune "${timed[@]}" --init "$work/student" --teacher "$work/teacher"
        ;;
    package)
        alone package --generator "$work/tune" --codec "$work/codec" --judge "$work/judge" \
            --out "$out"
        ;;
    captioner) together captioner "${timed[@]}" ;;
    package_captioner)
        alone package_captioner --captioner "$work/captioner" --out "$work/package"
        ;;
    check)
        alone check --generator "$work/tune" --codec "$work/codec" --judge "$work/judge"
        ;;
    *)
        echo "there is no stage $stage" >&2
        exit 2
        ;;
    esac
done
