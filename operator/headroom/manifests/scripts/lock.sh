# Sourced by what writes to the volume. `lock_volume WHO` takes it for this process and all that it starts, or ends with
# status 4 when another one still has it after LOCK_SECONDS.
#
# Two pods can have one volume: if one is deleted by force, Kubernetes forgets it while its server runs. The server's own
# lock, postmaster.pid, does not help, since neither pod sees the processes and the shared memory of the other.
#
# The lock is flock(2) through descriptor 9, which every later process inherits: the file system releases it when the
# last of them has ended, in whatever way, be it the postmaster or a backend that outlives it. Nothing stale can remain.
# On NFS, Linux makes it a lock of the NFS server, which other nodes respect too. Mounted with `nolock` or `local_lock`
# it is respected on its own node only.
#
# Reads: PGDATA, LOCK_SECONDS.

lock_volume() {
	if ! command -v flock >/dev/null; then
		echo "$1: the image has no flock (of util-linux or busybox), without which two servers could use one volume" >&2
		exit 3
	fi
	exec 9>>"${PGDATA%/*}/.headroom-lock"
	left=$LOCK_SECONDS
	# busybox has no `flock -w`. If another one has the lock, `-n` fails without a word.
	until problem=$(flock -n 9 2>&1); do
		if [ -n "$problem" ]; then
			echo "$1: the volume cannot be locked: $problem" >&2
			exit 1
		fi
		if [ "$left" = "$LOCK_SECONDS" ]; then
			echo "$1: another pod's server or copy still uses the volume: waiting up to $left s for its end" >&2
		fi
		if [ "$left" -le 0 ]; then
			echo "$1: another pod's server or copy still uses the volume after $LOCK_SECONDS s: it is tried again" >&2
			exit 4
		fi
		left=$((left - 1))
		sleep 1
	done
}
