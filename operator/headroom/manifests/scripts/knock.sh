# Sourced by the probes. `knock SECONDS` becomes pg_isready, and waits so long for an answer: 0 accepts, 1 refuses (it
# starts or stops), 2 no answer. A server without a free connection answers, and accepts. Nothing here starts a process:
# the kubelet knocks at all replicas of a set, also when each has more work than processors, and there every further
# process has to wait for its turn.
#
# Reads: PATH, MONITOR_ROLE.

knock() {
	# In Debian's images the first pg_isready on PATH is a Perl program that searches the right one for longer than that
	# one runs. The right one is beside the server.
	IFS=:
	for folder in $PATH; do
		if [ -x "$folder/postgres" ] && [ -x "$folder/pg_isready" ]; then
			PATH="$folder:$PATH"
			break
		fi
	done
	unset IFS
	# As a role that is there: the server would log a stranger's knock each time. No password is asked for a knock.
	PGSSLMODE=disable exec pg_isready -q -h 127.0.0.1 -p 5432 -U "$MONITOR_ROLE" -t "$1"
}
