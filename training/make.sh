#!/usr/bin/env bash
# The bundled model from nothing, in about half an hour on two H100s; more GPUs see more clips.
#
#     training/make.sh WORK [STAGE...]     all stages where none is named
#
# Every stage writes WORK/<stage> with its log, and goes on from its checkpoint when RESUME=1.
set -euo pipefail

work=${1:?usage: training/make.sh WORK [STAGE...]}
shift
stages=${*:-judge codec dataset generator package check}
gpus=${GPUS:-$(python3 -c 'import torch; print(max(1, torch.cuda.device_count()))')}
# Seconds for each stage, and after how many to leave the generator for a later RESUME=1.
: "${JUDGE:=75}" "${CODEC:=300}" "${DATASET:=110}" "${GENERATOR:=1000}" "${PAUSE:=}" "${RESUME:=}"
# The folder this is called from may hold one named `longtake`, which is not the package.
export PYTHONSAFEPATH=1

alone() { python3 -m "longtake.training.$1" "${@:2}"; }
together() {
    torchrun --standalone --nproc-per-node "$gpus" -m "longtake.training.$1" "${@:2}"
}

for stage in $stages; do
    out=$work/$stage
    case $stage in
    judge) alone judge --out "$out" --seconds "$JUDGE" --no-compile ;;
    codec)
        together codec --out "$out" --seconds "$CODEC" --judge "$work/judge"
        ;;
    dataset) together dataset --out "$out" --codec "$work/codec" --seconds "$DATASET" ;;
    generator)
        together generator --out "$out" --data "$work/dataset" --seconds "$GENERATOR" \
            ${PAUSE:+--pause "$PAUSE"} ${RESUME:+--resume}
        ;;
    package)
        alone package --generator "$work/generator" --codec "$work/codec" --judge "$work/judge" \
            --out "$out"
        ;;
    check)
        alone check --generator "$work/generator" --codec "$work/codec" --judge "$work/judge"
        ;;
    *)
        echo "there is no stage $stage" >&2
        exit 2
        ;;
    esac
done
