"""Numbers of the effectiveness gate that keep time and what is not known apart from a verdict; to calibrate."""

DRIFT_PER_MINUTE = 0.02
"""Jobs and database drift by so much for each minute between two windows, beside WINDOW_ERROR. At LINEAR_SIGMAS, a fall
of 8 % a minute leads to no verdict."""
DRIFT_FREE_SECONDS = 180.0
"""A free rate is as good as new for so long, in which a race is named; then it may have fallen by 8 % a minute."""
DRIFT_PIECES = 3
"""Pieces that are looked at together for another rate: one of two times hides the change."""
TAIL_JOBS = 400
TAIL_SECONDS = 120.0
"""Of an earlier window, so many jobs and so much time are compared: more of them would be older, and hardly exacter."""
TRIAL_AFTER_SECONDS = 45.0
"""Slots that are slower beside more workers must have been so for so long, where no wait for a lock says why."""
TRIAL_FIRST_SECONDS = 120.0
"""Fewer workers are measured again after 2, 4, 8 ... minutes, up to `retryAfter`, if the last try showed nothing."""
WARY_SECONDS = 1800.0
WARY_MOST_SECONDS = 14400.0
"""After a verdict that was withdrawn, only sessions that wait for a lock stop growth for 30 minutes, or 1, 2, 4 hours:
each verdict takes workers from a queue that is late."""
BACK_SHARE = 0.2
"""At least so many of the workers are taken back to confirm a verdict, or the whole step: fewer would show nothing."""
RECOVERED_SIGMAS = 2.0
"""How sure it must be that a slot does more beside fewer workers, or does not."""
UPDATE_SECONDS = 600.0
"""A rollout that has not ended by then is measured as it is: a Deployment reports it as stuck after this time too."""
NAMED_SAMPLES = 5
"""A cause is named from so many samples on, with WAIT_SIGHTINGS in them: no count of workers depends on its name."""
BUSY_SHARE = 0.5
"""If fewer sessions than this share of the workers are busy in the database, it is not what limits them."""
