"""Every number of the worker policy that a spec does not set, with its source; all are starting points to calibrate."""

PROBE_SECONDS = 5.0
"""Time between two samples. A direct SQL probe every 5 s saves about 75 s of metrics pipeline against HPA + adapter."""
URGENT_PROBE_SECONDS = 1.0
"""The same while lag is above its target: then a decision is worth more than a statement a second costs."""
STALE_AFTER_SECONDS = 15.0
"""A sample older than three probes says nothing about the present."""

RATE_WINDOW_SECONDS = 60.0
"""Window of the arrival rate: 5 % error at 7 arrivals a second (Poisson), a minute of memory after a change."""
STEADY_WINDOW_SECONDS = 300.0
"""Window of the arrival rate while nothing says that it moves: a shorter one would buy workers for chance alone."""
MOVED_SIGNIFICANCE = 3.0
"""The rate has moved if the last minute is 3 standard deviations away from the longer window: with 2, chance alone
would move a steady pool in every fourth window."""
WAIT_SHARE = 0.8
"""While the rate moves, items may wait up to this share of the target lag instead of more workers: what would come
above that could only be met too late."""
WAIT_HORIZON_SECONDS = 30.0
"""What may wait is spread over the target lag, and at least over this time."""
BATCH_LEAD_SHARE = 1 / 3
"""A batch is done within the target lag once its workers run, so that the next one of its kind is on time; where a
start takes far longer than the target, within this share of a start."""
LONG_JOBS_FIT = 3.0
"""Where fewer jobs than this fit one after another into the target, a batch is counted in whole jobs."""
SURE_SHARE = 0.75
"""Of the jobs that fit after the first one by the measured rate, so many surely do: 20 jobs know it to 22 %."""
ARRIVALS_LEAST = 20.0
"""A rate of rare arrivals is counted over as many: relative error 22 %."""
HISTORY_SECONDS = 6 * 3600.0
"""What is older says nothing about the rates of the present day, however rare and long the jobs are."""
DISPERSION_LEAST_PIECES = 20
DISPERSION_MOST = 100.0
"""Variance / mean of arrivals per 5 s: from 20 pieces on its error is a third; a batch of 100 has 100."""
CHANGE_SPANS = 3
CHANGE_SIGNIFICANCE = 3.0
"""The rate has risen if the middle one of the three newest spans is 3 standard deviations above the window's rate."""
JUMP_LEAST_SPANS = 2
JUMP_SHARE = 0.8
"""The rate has jumped if two levels leave less than this share of what a line leaves unexplained; the newer level lasts
at least two spans. Two levels have one more number to choose, for which BIC asks 12 ** (-1 / 12) over twelve."""
TREND_WINDOW_SECONDS = 120.0
"""Window in which arrivals must have grown: at least twelve intervals, else chance alone makes slopes. The rate's own,
shorter window says by how much they grow: growth that has ended leaves it sooner."""
TREND_LEAST_INTERVALS = 12
TREND_SIGNIFICANCE = 3.0
"""Standard errors a slope must be above zero to count as growth; 2 would see growth in steady arrivals too often."""
GAP_FACTOR = 3.0
"""An interval longer than this many medians of its window is a gap: what arrived in it is backlog, not rate."""
BULK_FLOOR = 10
BULK_LEAST_INTERVALS = 4
"""One interval of at least four that holds more than half of a window's arrivals, and more than ten rows, is a bulk
insert: the backlog already counts it, and it is not a rate that lasts."""

SERVICE_TIMES_LEAST = 5.0
"""The service rate is measured over at least this many service times."""
SERVICE_WINDOW_LEAST_SECONDS = 30.0
SERVICE_WINDOW_MOST_SECONDS = 600.0
SERVICE_WINDOWS_SECONDS = (30.0, 60.0, 120.0, 300.0, 600.0)
"""The service rate is that of the longest of these windows that the shorter ones do not contradict."""
SERVICE_MOVED_SIGNIFICANCE = 2.0
SERVICE_ERROR_ENOUGH = 0.04
"""A longer window than one of this relative error only adds age."""
SATURATED_SHARE = 0.9
"""All slots count as busy from nine of ten on: between two jobs a slot is idle for a moment."""
PRIOR_JOBS = 5
"""Weight of the last good service rate beside what is measured, in jobs: (k + 5) / (busy + 5/m0)."""
KNOWN_AFTER_JOBS = 20
"""Ended jobs after which a service rate counts as measured: relative error CV/sqrt(20), about 22 %."""
SIGHTINGS_LEAST = 20.0
"""Busy time is an average of samples: its error is 1/sqrt(busy slots seen), 22 % of 20."""

SERVICE_CV_SQUARED = 1.0
"""Assumed squared coefficient of variation of service times: 1 is exponential, a guess until it is measured."""
LATE_PROBABILITY = 0.01
"""Share of the jobs of a steady load that may wait longer than the target lag."""
MOST_UTILIZATION = 0.95
"""Busy share of the slots of a steady load at most: a rate that is measured to 5 % must not make the queue grow."""
DEFAULT_LEAD_SECONDS = 30.0
"""Lead time until a start was measured: the image is on the node, interpreter and library have to load."""
LEAST_LEAD_SECONDS = 1.0
MOST_LEAD_SECONDS = 300.0
"""Bounds of a measured lead time, what is above is none; Flink's autoscaler assumes 5 minutes of restart by default."""
LEAD_OUTLIER_FACTOR = 4.0
"""A pod that became ready this many times later than the median was unready in between: it says nothing of starts."""

LEARNING_STEP_SECONDS = 30.0
"""While nothing is known, the pool doubles at most this often."""
LEARNING_MOST_FACTOR = 4
"""... and to at most this many times the workers that run: two doublings may be on their way at long starts."""
CALM_SHARE = 0.9
CALM_BACKLOG_SHARE = 0.5
CALM_LAG_SHARE = 0.5
"""Without any rate, a pool has too many workers if in nine of ten samples of a whole window hardly anything waited:
fewer items than half of its slots, for less than half of the target lag."""
CALM_STEP_PERCENT = 20
"""... and then that many of its workers are too many: the next window shows whether it was right."""
IDLE_BESIDE_BACKLOG_SECONDS = 60.0
"""Slots that stay idle for a minute beside jobs that wait cannot take them: more of them would not help."""

OCCUPANCY_SAMPLES = 6
OCCUPANCY_REPEAT_SAMPLES = 3
OCCUPANCY_KEPT = 12
"""Samples beside a backlog that all show the same items for each worker: fewer slots than the spec says. By chance, a
count that varies (Poisson) is at one number in less than 4 of 10 samples, so 1 of 250 times in six. At a larger count
three are enough, since they must have risen with it. Of more than twelve the newest count."""

DEADBAND_WORKERS = 1
MOVE_SHARE = 0.05
"""Differences below max(1, 5 %) are not worth a restart of anything: what is held back so is less than the idle share
of a steady load."""
DEADBAND_SHARE = 0.1
"""More than max(1, 10 %) above what is wanted is called spare; HPA's tolerance is 10 % too."""
DOWN_STEP_SECONDS = 30.0
"""Least time between two steps down: the effect of a step must show before the next one."""
COVERAGE_GAP_SECONDS = 60.0
"""A longer gap than this splits a row of wants in two: what was wanted in the gap is unknown."""
STEP_SECONDS = 15.0
"""A step up is bounded per lead time, at most per so many seconds: HPA's own period. At a start of 90 s one step per
start would be late by minutes."""
STEP_SLACK_SECONDS = 1.0
"""A probe is never on time to the second: without this, a step per 5 s would take two probes."""
STEP_WORKERS_LEAST = 4
"""A step may always have four workers, as HPA's default policy has it: a share of few workers is too few."""
MOVES_KEPT_SECONDS = 3600.0
"""Longer than any lead time or step pause that looks back at our own moves."""
STARTING_LEAD_TIMES = 2.0
"""A pod that starts counts as capacity for this many lead times; afterwards it is late."""
LEAST_STUCK_SECONDS = 30.0
"""A late pod that names no trouble is reported no sooner: where a start takes a second, a busy node takes some more."""

HEAD_SAMPLES = 6
HEAD_PASSED = 2
"""An item that stays the next one over six samples, while at least two others are taken, is passed over: blocked."""
HEAD_HELD_SECONDS = 15.0
"""An item whose row a transaction has locked for so long is named; a batch update locks rows for a moment."""
CROWDED_SECONDS = 60.0
"""More jobs in flight than slots for so long do not come from a pod that has just come or gone."""

HANG_SECONDS = 60.0
"""Workers that end no job for so long are not only held up for a moment, as by a failover or a batch update."""
HANG_JOBS = 20.0
"""... in which their busy slots would have ended so many: by chance that happens once in 500 million (Poisson)."""

FAILING_SHARE = 0.5
FAILING_LEAST_ENDED = 20
"""More than half of at least 20 ended attempts failed: more workers would only fail faster."""
FAILING_WINDOW_SECONDS = 120.0
FAILING_LEAST_SECONDS = 15.0
"""The newest attempts of three probes at least: what failed a minute ago must not stop growth now."""

FAILURES_SHOWN_SECONDS = 600.0
"""Failures are shown for ten minutes: they outlast the backlog that they have emptied."""

JOB_PERCENTILE_FACTOR = 4.6
"""99 of 100 exponential service times are shorter than -ln(0.01) means; used until the times themselves are known."""
MOST_MARKS = 100
"""Pods marked for one step down: each is a write, and the controller chooses the others by age."""

FOREIGN_WRITES = 2
FOREIGN_WRITES_WITHIN_SECONDS = 600.0
FOREIGN_HOLD_SECONDS = 600.0
"""Two foreign writes of `spec.replicas` within 10 minutes of ours are a second controller or Git: hold 10 minutes."""

ALLOCATION_SECONDS = 5.0
"""A pool that wants more than the last allocation waits so long before that is a shortage, unless the guard itself
reports one. A guard makes a pass every second or two, and other pools give workers back within 5 s."""

FALLEN_SHARE = 0.95
"""Lag has fallen once it is this far below its height: a twentieth is more than one job makes."""
BACK_WITHIN = 0.8
"""Once late, a queue counts as within its target again below this share of it, so that the verdict does not flap."""
BRIEF_SECONDS = 10.0
"""A pool that could read its queue stays Ready for so long: two probes may fail."""

WINDOW_JOBS = 100
"""Jobs of each of two windows that stop growth: their ratio is then known to 14 % (Poisson)."""
GAIN_LEAST_JOBS = 20
"""Jobs of each window that can show a gain, and under a pod template before growth is limited at all."""
GAIN_SIGMAS = 1.96
"""A 95 % interval."""
GAIN_UNCERTAINTY = 0.4
"""No gain: the interval of the gain ends less than this above `minGainPercent`, so below 0.5 with the default of 10."""
LINEAR_SIGMAS = 4.0
"""... and it must be so far below a linear gain that chance explains it once in 30,000 times. A window is looked at
many times, the counts of clumped jobs have long tails, and a false freeze costs more than ten seconds."""
WEAK_WINDOWS = 3
"""After so many times the jobs of a window, a gain between none and linear counts as what it is."""
LINEAR_GAIN = 0.5
"""A gain whose interval begins above this is near to linear: the rate of a slot at that count is the free one."""
WINDOW_ERROR = 0.05
"""Jobs differ by so much from one window to the next, however many are counted."""
PIECE_SECONDS = 5.0
PIECES_LEAST = 3
"""Completions are counted in pieces of the calm probe interval: at least three show how much they vary."""
DRIFT_SIGMAS = 4.0
DRIFT_LEAST_JOBS = 20
"""A piece that is so far from the rate before it belongs to another time; chance does that once in 16,000 pieces."""
WINDOW_KEEP_SECONDS = 300.0
"""A window that is longer forgets half of itself: it shows the present."""
BASE_MAX_AGE_SECONDS = 600.0
"""The jobs of a queue change over a day: an older window is compared with nothing."""
FAILURES_MOVED = 0.1
OTHERS_MOVED = 0.1
"""Two windows are not compared if the failing share of one is 10 points higher, or other pools hold 10 % more."""
SETTLING_SECONDS = 5.0
"""A worker that became ready connects and warms up first: so long, or one service time, is not counted."""
VERDICT_SECONDS = 300.0
"""Without a verdict for so long a step counts as a gain, unless the sessions wait for a lock."""
GROWTH_FACTOR = 2.0
"""Growth until the next verdict: up to this many times the verified count ..."""
ARRIVALS_FACTOR = 1.25
"""... or up to this many times the workers that the arrivals need at the free rate of a slot."""
GAINED_SHARE = 0.25
"""A step that gained something may be followed by one of at least this share of its gain."""
FREE_SHARE = 0.6
"""A slot that certainly does this share of the free rate is not held up by others; certainly less is doubtful."""
SLOWER_SHARE = 0.9
"""A slot that certainly does less than this of the free rate may be held up by others."""
SLOWER_LEAST_JOBS = 5
"""A piece with fewer jobs is a stall, and no new rate of a slot."""
TRIAL_SHARE = 1 / 3
TRIAL_SECONDS = 120.0
"""If there is no window at fewer workers, so many of them are taken away to make one, for so long at most."""
FREEZE_FIRST_SECONDS = 60.0
FREEZE_GROWTH = 2.0
"""After a freeze, more workers are tried after 1, 2, 4 ... minutes, up to `retryAfter`."""
CONFIRM_SECONDS = 60.0
"""A freeze takes half of the step back and looks so long whether the throughput falls."""
RECOVERED_RATIO = 1.25
"""The same workers certainly do so many times what they did when growth was frozen: the cause is gone."""
WAIT_SIGHTINGS = 20
"""Sessions that must have been seen before a share of their wait events means something: 22 % error of one half."""
WAIT_SAMPLES = 20
WAIT_SAMPLES_KEPT = 40
"""... and samples that must have seen them, since sessions that wait for one lock are seen together. Each forty forget
half of what was seen, so that a change shows within a minute."""
LOCK_SHARE = 0.3
"""A database without lock trouble is near 0; three queues that collapsed had 34, 57 and 77 %."""
