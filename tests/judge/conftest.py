from hypothesis import settings

settings.register_profile("shared-machine", deadline=None)  # durations say nothing on a busy machine
settings.load_profile("shared-machine")
