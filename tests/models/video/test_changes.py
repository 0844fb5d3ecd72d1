"""Changes as people type them, and what of a scene each of them changes: that and nothing else.

They were written for this, by heart; no list of words was looked at.
"""

from __future__ import annotations

import re

import pytest

from longtake.models.video.rewriter import PromptRewriter
from longtake.training.lexicon import lexicon

REWRITER = PromptRewriter(lexicon())
PLAIN = "a small red ball rests on the grass by day under a clear sky, the camera is still"
BESIDE = (
    "a small red ball rests on the grass"
    " by day under a clear sky beside a blue house, the camera is still"
)
RAINY = "a big red ball bounces slowly on the sand at night in the rain, the camera pans left"
FOGGY = "a red ball bounces fast on the sand at night in the fog, the camera zooms in and out"
SNOWY = "a red ball bounces fast on the sand at night while it snows"
CHANGES: list[tuple[str, dict[str, str], str]] = [
    (
        PLAIN,
        {"shape": "car"},
        """
        the ball is a car now | the ball is now a car | swap the ball for a car | switch the ball to
        a car | exchange the ball for a car | the ball transforms into a car | transform the ball
        into a car | the ball morphs into a car | a car instead of the ball | a car in place of the
        ball | instead of the ball a car | a car takes the place
        of the ball | a car takes its place | a car replaces the ball | the ball is replaced by a
        car | the ball gets replaced by a car | make it a car | let it be a car | let the ball be a
        car | let the ball become a car | now there is a car instead | from a ball to a car | no
        longer a ball but a car | show a car instead | have a car instead of the ball | now it's a
        car | it's a car now | i want a car instead of a ball | use a car instead | the ball changes
        to a car | the ball should be a car | turn it into a car | swap it for a car | swap in a car
        | replace it by a car | morph it into a car | the ball has become a car | the ball has
        turned into a car | the ball becoming a car | please turn the ball into a car | could the
        ball be a car | a car comes in place of the ball | trade the ball for a car | the ball gives
        way to a car | the ball makes way for a car | the ball reshapes into a car
    """,
    ),
    (
        BESIDE,
        {"companion": "tree"},
        """
        the house turns into a tree | swap the house for a tree | the house is now a tree | replace
        the house with a tree | a tree instead of the house | the house transforms into a tree | the
        house is replaced by a tree | a tree replaces the house | the house gives way to a tree | a
        tree takes the place of the house | let the house become a tree | switch the house to a tree
        | exchange the house for a tree | the thing next to it becomes a tree | the other thing
        becomes a tree | the one behind it becomes a tree | the one in the background turns into a
        tree
    """,
    ),
    (
        BESIDE,
        {"companion": "none"},
        """
        remove the house | the house disappears | the house vanishes | the house is gone | get rid
        of the house | take the house away | no more house | without the house | delete the house |
        erase the house | the house leaves | hide the house | lose the house | drop the house | the
        ball is alone | leave the ball alone | the ball is on its own | the house fades away | the
        house is no longer there | the house is not there any more | clear away the house | let the
        house disappear | make the house disappear | make the house vanish | nothing next to it |
        nothing else is there | nothing beside it | take out the house
    """,
    ),
    (
        PLAIN,
        {"companion": "tree", "companion_colour": "green"},
        """
        add a green tree | a green tree appears | a green tree shows up | a green tree next to it |
        put a green tree beside the ball | there is a green tree behind it | a green tree comes into
        view | a green tree joins it | place a green tree next to the ball | set a green tree behind
        the ball | include a green tree | with a green tree in the background | a green tree pops up
        | a green tree turns up | a green tree is standing next to it | a green tree stands behind
        the ball | give it a green tree | bring in a green tree | let a green tree appear | also a
        green tree | let there be a green tree | a green tree arrives | a green tree emerges | make
        a green tree appear | show a green tree too | and a green tree as well | now with a green
        tree | next to it stands a green tree | a green tree comes along | a green tree as company |
        accompanied by a green tree | draw a green tree next to it | insert a green tree | stick a
        green tree in the background | i want a green tree behind it
    """,
    ),
    (
        BESIDE,
        {"companion_colour": "yellow"},
        """
        the house turns yellow | paint the house yellow | make the house yellow | the house becomes
        yellow | the house is yellow now | colour the house yellow | color the house yellow | the
        house gets yellow | give the house a yellow colour | the house should be yellow | a yellow
        house instead | the house in yellow | recolour the house yellow | the house changes to
        yellow | the house changes its colour to yellow | dye the house yellow | the house goes
        yellow | the other one turns yellow | the house fades to yellow | tint the house yellow |
        let the house be yellow
    """,
    ),
    (
        PLAIN,
        {"colour": "yellow"},
        """
        the ball turns yellow | paint it yellow | make it yellow | colour it yellow | it is yellow
        now | it's yellow now | the ball goes yellow | a yellow ball | a yellow ball instead | make
        the ball yellow | change the colour to yellow | change its color to yellow | let it be
        yellow | the ball fades to yellow | dye it yellow | give it a yellow coat | recolor it to
        yellow | switch to yellow | now in yellow | the ball in yellow | yellow | its colour becomes
        yellow | the ball gets yellow | from red to yellow | yellow instead of red | swap red for
        yellow | the ball takes on a yellow colour | tint it yellow
    """,
    ),
    (
        PLAIN,
        {"size": "big"},
        """
        it grows | make it big | make it bigger | make it larger | it gets larger | the ball gets
        big | enlarge it | enlarge the ball | a bigger ball | a huge ball | it becomes huge | the
        ball swells | the ball expands | blow it up | scale it up | scale up the ball | make it
        giant | let it grow | it is big now | the ball is large now | the ball becomes larger |
        increase its size | the ball gets bigger | make it grow | the ball is growing | make it
        enormous | the ball inflates | double its size | a large one | make it really big
    """,
    ),
    (
        RAINY,
        {"size": "small"},
        """
        it shrinks | make it small | make it smaller | it gets smaller | the ball gets small | a
        tiny ball | it becomes tiny | scale it down | make it tiny | let it shrink | it is small now
        | the ball becomes smaller | decrease its size | reduce its size | the ball is shrinking |
        make it shrink | a little ball | shrink the ball | shrink it | make it miniature | the ball
        contracts | reduce the ball | make it little
    """,
    ),
    (
        PLAIN,
        {"time": "night"},
        """
        night falls | make it night | it gets dark | it is night now | it's night | it's dark now |
        turn it to night | switch to night | at night | let night fall | darkness falls | it grows
        dark | the night begins | night time | nighttime | go to night | now at night | now make it
        night | the day ends and night begins | the stars come out | the moon comes up | midnight |
        bring on the night | set it at night | change to night | change the time to night | let it
        get dark | it becomes dark | in the middle of the night | the light fades to night | make it
        dark | the day turns into night | the day becomes night | day turns to night | the moon
        appears
    """,
    ),
    (
        RAINY,
        {"time": "day"},
        """
        day breaks | make it day | it gets light | it is day now | it's day | it's daytime | the sun
        rises | the sun comes up | morning | switch to day | let it be day | the day begins | a new
        day begins | it gets bright | it grows light | bring back the day | daybreak | by day | in
        daylight | turn night into day | back to day | now make it day | noon | midday | it becomes
        day | it is morning | change to daytime | the night ends | the night is over | night turns
        to day | light returns | let the sun rise | make it bright | sunrise
    """,
    ),
    (
        PLAIN,
        {"time": "sunset"},
        """
        the sun sets | make it sunset | make it evening | it is evening | it's evening now | dusk |
        the sun goes down | evening falls | evening comes | switch to sunset | at sunset | sunset |
        let the sun go down | the evening begins | it becomes evening | the sun is going down | the
        sun sinks | golden hour | let it be evening | twilight | it turns to dusk | the day ends |
        change to sunset | in the evening | make the sun set | the sky turns red as the sun sets |
        the sun is low | turn it into an evening
    """,
    ),
    (
        PLAIN,
        {"weather": "rain"},
        """
        it starts to rain | it rains | let it rain | make it rain | rain | it begins raining | rain
        starts | rain begins | rain sets in | it is raining now | it's raining | add rain | a shower
        | start the rain | turn on the rain | bring rain | bring in the rain | now with rain | the
        rain begins | rain comes down | it pours | rain starts to fall | rain begins to fall | give
        it some rain | rainy weather | the weather turns rainy | change the weather to rain | it
        gets rainy | a rainstorm | switch to rain | some rain please | let rain fall | rain clouds
        come
    """,
    ),
    (
        PLAIN,
        {"weather": "snow"},
        """
        it starts to snow | it snows | let it snow | make it snow | snow falls | it begins snowing |
        snow starts to fall | snow begins to fall | snowflakes fall | it is snowing | it's snowing
        now | add snowfall | bring snow | the weather turns to snow | start the snow | snow comes
        down | snowfall begins | snowfall sets in | change the weather to snow | it gets snowy |
        flakes fall | let snow fall | snow starts falling | a snowstorm | now with falling snow |
        some snow from the sky
    """,
    ),
    (
        PLAIN,
        {"weather": "fog"},
        """
        fog rolls in | it gets foggy | make it foggy | add fog | fog comes in | fog comes up | fog
        rises | mist | it is foggy now | it's foggy | fog covers everything | a fog descends | fog
        settles | let there be fog | bring in fog | the fog thickens | it becomes misty | it gets
        hazy | fog sets in | everything is in fog | turn on the fog | switch to fog | foggy weather
        | the weather turns foggy | fog everywhere | wrap it in fog | fog moves in
    """,
    ),
    (
        RAINY,
        {"weather": "clear"},
        """
        the rain stops | it stops raining | no more rain | stop the rain | the sky clears | the sky
        clears up | clear sky | it clears up | the rain is over | the rain ends | let the rain stop
        | make the rain stop | the weather gets better | good weather | dry weather | the clouds go
        | the clouds disappear | turn off the rain | switch off the rain | end the rain | it is dry
        now | the rain goes away | without rain | remove the rain | a clear sky | the weather clears
        | nice weather | sunny weather | the rain fades | it isn't raining any more | it is not
        raining any more | it no longer rains | make it clear | fair weather | the sky gets clear |
        the sky is clear now
    """,
    ),
    (
        FOGGY,
        {"weather": "clear"},
        """
        the fog lifts | the fog clears | no more fog | remove the fog | the fog goes away | the fog
        disappears | the fog vanishes | the fog is gone | the mist clears | clear the fog | the fog
        fades | let the fog lift | make the fog go away | get rid of the fog | the fog dissolves |
        take the fog away | the fog melts away | the fog thins out | turn off the fog | without fog
        | the view clears | the air clears | the sky is clear | it clears up | clear weather | the
        fog drifts away
    """,
    ),
    (
        SNOWY,
        {"weather": "clear"},
        """
        it stops snowing | the snow stops | no more snow | the snowfall ends | stop the snow | the
        snowfall stops | let it stop snowing | the snow stops falling | turn off the snow | the
        snowfall is over | end the snowfall | no snow from the sky | the sky clears | clear sky
    """,
    ),
    (
        PLAIN,
        {"ground": "snow"},
        """
        the ground turns to snow | snow covers the ground | put it on snow | on the snow | the
        ground is snow now | the ground becomes snowy | the ground is covered in snow | move it onto
        the snow | snow on the ground | the grass turns to snow | replace the grass with snow |
        change the ground to snow | snow gathers on the ground | the ground turns white with snow |
        make the ground snow | switch the ground to snow | the meadow is covered with snow | let
        snow cover the ground | a snowy ground
    """,
    ),
    (
        PLAIN,
        {"ground": "sand"},
        """
        the ground turns to sand | put it on the beach | move it to the beach | on the sand | sand
        covers the ground | the ground is sand now | the grass turns to sand | replace the grass
        with sand | change the ground to sand | a sandy ground | make the ground sandy | a beach
        instead of the meadow | now in the desert | go to the beach | take it to the beach | the
        ground becomes a desert | switch to a beach | place it on the sand | let it be on sand | set
        it on a beach | the grass becomes sand | the meadow becomes a beach | sandy ground
    """,
    ),
    (
        PLAIN,
        {"ground": "water"},
        """
        the ground turns to water | put it on the water | on the sea | water covers the ground | the
        ground is water now | the grass turns to water | replace the grass with water | flood the
        ground | it is on the water | move it to the sea | a lake instead of the grass | at sea | on
        a lake | switch to water | the ground becomes water | the meadow is flooded | place it on
        water | take it to the sea | the ground gives way to water | let it float on the water |
        waves cover the ground | change the ground to water | the ground becomes a lake
    """,
    ),
    (
        RAINY,
        {"ground": "grass"},
        """
        the ground turns to grass | put it on the grass | grass grows | on a meadow | the sand turns
        to grass | replace the sand with grass | the ground is grass now | a meadow instead of the
        beach | change the ground to grass | move it to a meadow | grass covers the ground | the
        ground becomes green grass | switch to grass | place it on the lawn | grassy ground | let
        grass grow | the ground turns into a meadow | take it to a meadow | the beach becomes a
        meadow | make the ground grass
    """,
    ),
    (
        PLAIN,
        {"motion": "bounces"},
        """
        it bounces | the ball bounces | it starts bouncing | make it bounce | let it bounce | it
        starts to bounce | the ball begins to bounce | it is bouncing now | it hops | the ball hops
        up and down | it jumps | it jumps up and down | make it hop | make it jump up and down |
        have it bounce | bouncing | now it bounces | it should bounce | set it bouncing | bounce |
        start bouncing | get it to bounce | the ball springs up and down
    """,
    ),
    (
        PLAIN,
        {"motion": "rolls"},
        """
        it moves from side to side | it rolls back and forth | it goes back and forth | make it roll
        from side to side | it starts to move left and right | the ball goes from left to right and
        back | it slides from side to side | it moves back and forth | let it roll | it starts
        rolling | have it move from side to side | the ball starts rolling back and forth | it
        wanders from side to side | now it moves from side to side | make it go side to side
    """,
    ),
    (
        PLAIN,
        {"motion": "circles"},
        """
        it flies in circles | it circles | it starts circling | make it fly in circles | it moves in
        a circle | let it circle | it goes round and round | it goes in circles | the ball flies in
        a circle | it begins to circle | it goes around in circles | have it fly in circles | make
        it go in circles | it loops around | the ball moves in circles | it orbits | flying in
        circles
    """,
    ),
    (
        PLAIN,
        {"motion": "drifts"},
        """
        it floats | it drifts | it floats through the air | it starts to float | make it float | let
        it drift | it drifts through the air | it hovers | it begins to float | the ball floats in
        the air | it glides through the air | have it float | it is floating now | it starts
        drifting | it drifts along
    """,
    ),
    (
        PLAIN,
        {"motion": "flies away"},
        """
        it flies away | it flies away and comes back | it flies off and returns | it goes into the
        distance | it flies into the distance | make it fly away | let it fly away and come back |
        it starts to fly away | it flies away and back | it goes away and comes back | the ball
        flies off | it disappears into the distance and comes back | it goes off into the distance |
        have it fly away
    """,
    ),
    (
        RAINY,
        {"motion": "rests"},
        """
        it stops | it rests | it stops moving | it stands still | make it stop | it comes to rest |
        let it rest | it comes to a stop | it comes to a halt | it stays still | keep it still | it
        stops bouncing | it lies still | the ball is still | the ball is at rest | hold it still |
        it no longer moves | it doesn't move any more | make it rest | freeze | it freezes | halt |
        it halts | stop it | it stays where it is | the ball lies there | stop the ball | no more
        bouncing
    """,
    ),
    (
        RAINY,
        {"speed": "fast"},
        """
        faster | it gets faster | speed up | make it faster | it speeds up | go faster | it bounces
        faster | it moves faster | quicker | make it quicker | it becomes fast | it accelerates |
        more speed | it is fast now | the ball gets quicker | let it go faster | pick up speed | it
        picks up speed | it gains speed | hurry up | make it quick | it moves quickly now | speed it
        up | increase the speed | the ball moves fast | it gets quick | at high speed | a bit faster
        | much faster
    """,
    ),
    (
        FOGGY,
        {"speed": "slow"},
        """
        slower | it gets slower | slow down | make it slower | it slows down | go slower | it
        bounces slower | it moves slower | it becomes slow | less speed | it is slow now | the ball
        gets slower | let it go slower | slow it down | reduce the speed | it moves slowly now | it
        loses speed | the ball moves slowly | take it slow | more slowly | it bounces more slowly |
        a bit slower | decrease the speed | it gets slow | calmer | gently now | in slow motion | it
        decelerates
    """,
    ),
    (
        RAINY,
        {"time": "day", "weather": "clear"},
        """
        the sun comes out | the sun shines | the sun is shining | the sun comes back | sunshine
    """,
    ),
    (
        PLAIN,
        {"camera": "pans left"},
        """
        the camera pans left | pan left | the camera moves left | camera goes left | the camera
        turns left | move the camera left | the camera starts moving left | let the camera pan left
        | the camera begins to pan to the left | swing the camera left | the camera slides left |
        panning to the left | pan the camera left | pan the camera to the left | the camera drifts
        left | make the camera pan left | the camera travels left | the camera sweeps left | have
        the camera go left | the view moves left | look left
    """,
    ),
    (
        PLAIN,
        {"camera": "pans right"},
        """
        the camera pans right | pan right | camera to the right | the camera swings to the right |
        move the camera to the right | the camera starts to move right | the camera turns to the
        right | look right | pan the camera to the right
    """,
    ),
    (
        PLAIN,
        {"camera": "zooms"},
        """
        zoom in | the camera zooms | the camera zooms in and out | start zooming | let the camera
        zoom | the camera starts to zoom | zoom in and out | zooming in and out | the camera begins
        zooming | make the camera zoom | the camera moves in and out | the camera goes closer and
        back | have the camera zoom in | the view zooms in | the camera moves closer and away | zoom
        the camera | the camera is zooming | the camera comes closer
    """,
    ),
    (
        RAINY,
        {"camera": "still"},
        """
        the camera stops | stop the camera | hold the camera still | the camera stands still | keep
        the camera still | the camera stays still | a still camera | a fixed camera | no camera
        movement | the camera is still | the camera holds still | freeze the camera | the camera
        rests | stop panning | the camera stops panning | the camera does not move | the camera no
        longer moves | static camera | the camera comes to rest | let the camera rest | the camera
        stops moving | a static shot | the camera comes to a halt | lock the camera | hold the
        camera | the camera stays where it is
    """,
    ),
]
CASES = [
    pytest.param(scene, change, text, id=text)
    for scene, change, texts in CHANGES
    for text in re.split(r"\s*\|\s*", " ".join(texts.split()))
]


@pytest.mark.parametrize(("scene", "change", "text"), CASES)
def test_a_change_is_understood_and_all_else_stays(scene, change, text):
    wanted = REWRITER.fold([scene]) | change
    if wanted.get("companion") == "none":
        wanted.pop("companion_colour", None)
    found = REWRITER.fold([scene, text])
    if "motion" in change:
        # "it stops" and "it flies" leave the speed open.
        wanted.pop("speed", None)
        found.pop("speed", None)
    assert found == wanted
