import longtake

take = longtake.open().take("a red ball bounces on green grass on a sunny day", seed=7)
take.run(seconds=10)
take.prompt("night falls and it starts to snow")
take.run(seconds=10)
take.save("take.mp4")
