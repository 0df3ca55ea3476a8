#!/usr/bin/env bash
# Kills expo extrapolate at random moments and checks what it leaves.
#
#   scripts/kill_resume.sh [DIR]
#
# Needs: bash, coreutils, awk, Go unless EXPO is set. DIR (default $TMPDIR or
# /tmp) is where a temporary folder is made; it needs about 2 GB. Environment:
#
#   EXPO     the program (default: built from this repository)
#   KILLS    runs that are killed (default 100)
#   SIZE     bytes of each model (default 3e8)
#   SHARDS   files per model (default 12)
#   SEED     of the delays (default 1)
#
# Each time: expo starts, gets SIGKILL after a delay spread evenly over the
# duration of a whole run, and the target must be absent, or complete (expo
# verify agrees). Then the same command runs to its end, and the SHA-256 of
# every file must be that of a run nobody disturbed, with nothing left beside
# the target. Every third time expo is killed twice before it may finish.
# Further runs get SIGINT, and must end with status 130 and resume likewise.
# Then runs with --force over an older result are killed, most of them near
# their end: the target must be the old result or the new one, whole, and the
# command given again must make it the new one. Where strace is installed, a
# last round kills expo at the N-th fsync, rename or unlink of a thread, for
# every N, with and without an older result: moments that last too short a time
# to be hit by chance.
# Exit status 1 if anything is otherwise.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kills=${KILLS:-100} size=${SIZE:-3e8} shards=${SHARDS:-12}
RANDOM=${SEED:-1}
export LC_ALL=C

dir=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/kill-resume.XXXXXX")
pid=
trap '[[ -z $pid ]] || kill -9 "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

(cd "$repo" && go build -o "$dir/makepair" ./scripts/makepair)
expo=${EXPO:-}
if [[ -z $expo ]]; then
	(cd "$repo" && go build -o "$dir/expo" ./cmd/expo)
	expo=$dir/expo
fi
"$dir/makepair" -o "$dir" -bytes "$size" -shards "$shards" -hidden 1024 -vocab 8000

base=("$expo" extrapolate --sft "$dir/sft" --aligned "$dir/aligned")
command=("${base[@]}" --alpha 0.3)
target=$dir/targets/out
mkdir "$dir/targets" "$dir/reference"

sums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }

now() { date +%s%N; }

failures=0
fail() {
	echo "FAIL: $*"
	failures=$((failures + 1))
}

# The reference, and the shortest duration of a run with warm caches.
"${command[@]}" -o "$dir/reference/out" >/dev/null 2>&1
sums "$dir/reference/out" >"$dir/reference.sums"
duration=0
for _ in 1 2 3; do
	start=$(now)
	"${command[@]}" -o "$target" >/dev/null 2>&1
	took=$(($(now) - start))
	if ((duration == 0 || took < duration)); then duration=$took; fi
	sums "$target" | cmp -s - "$dir/reference.sums" || fail "two undisturbed runs differ"
	rm -rf "$target"
done
echo "a run takes $((duration / 1000000)) ms; $(wc -l <"$dir/reference.sums") files"

# start_and_signal SIGNAL NANOSECONDS: sets status, and alive=1 if the process
# was there to receive the signal.
start_and_signal() {
	local delay
	delay=$(awk -v n="$2" 'BEGIN { printf "%.6f", n / 1e9 }')
	# A background job of a script ignores SIGINT unless job control is on; with
	# it, wait would not only return when the job ends but also when it is stopped.
	if [[ $1 == INT ]]; then set -m; fi
	"${command[@]}" -o "$target" >"$dir/stdout" 2>"$dir/stderr" &
	pid=$!
	set +m
	sleep "$delay"
	alive=0
	if kill "-$1" "$pid" 2>/dev/null; then alive=1; fi
	status=0
	wait "$pid" 2>/dev/null || status=$?
	pid=
}

left() { # what an interrupted run leaves beside the target
	find "$dir/targets" -mindepth 1 -maxdepth 1 ! -name out | wc -l
}

check_target() { # label
	if [[ -e $target ]]; then
		complete=$((complete + 1))
		"$expo" verify "$target" >/dev/null 2>"$dir/verify" || fail "$1: a target exists and verify says: $(head -c 300 "$dir/verify")"
		sums "$target" | cmp -s - "$dir/reference.sums" || fail "$1: the target that the killed run left differs from the reference"
	else
		absent=$((absent + 1))
		(($(left) == 0)) || partial=$((partial + 1))
	fi
}

finish() { # label: the same command again must end well and give the reference
	if [[ -e $target ]]; then
		# Killed between the renaming and its end, expo could not clean up
		# behind itself; the next run for this target does.
		(($(left) == 0)) || "${command[@]}" -o "$target" --force >"$dir/stdout" 2>"$dir/stderr" || fail "$1: the run with --force after it failed: $(head -c 300 "$dir/stderr")"
	else
		status=0
		"${command[@]}" -o "$target" >"$dir/stdout" 2>"$dir/stderr" || status=$?
		((status == 0)) || fail "$1: the run after it ended with status $status: $(head -c 300 "$dir/stderr")"
		if grep -qi resum "$dir/stderr"; then resumed=$((resumed + 1)); fi
	fi
	if [[ -e $target ]]; then
		sums "$target" >"$dir/sums"
		cmp -s "$dir/sums" "$dir/reference.sums" || fail "$1: files differ from the reference: $(diff "$dir/sums" "$dir/reference.sums" | head -4 | tr '\n' ' ')"
	else
		fail "$1: no target after the run after it"
	fi
	(($(left) == 0)) || fail "$1: left beside the target: $(ls -A "$dir/targets" | tr '\n' ' ')"
	rm -rf "$dir/targets"
	mkdir "$dir/targets"
}

# delay I OF: within the I-th of OF equal parts of 1.1 durations.
delay() { echo $(((duration * 11 / 10) * ($1 * 32768 + RANDOM) / ($2 * 32768))); }

absent=0 complete=0 partial=0 resumed=0 early=0
for ((i = 0; i < kills; i++)); do
	times=$((i % 3 == 2 ? 2 : 1))
	for ((k = 0; k < times; k++)); do
		[[ -e $target ]] && break
		start_and_signal KILL "$(delay "$i" "$kills")"
		if ((alive && status == 137)); then
			:
		elif ((status == 0)); then
			early=$((early + 1))
		else
			fail "kill $i: status $status: $(head -c 300 "$dir/stderr")"
		fi
		check_target "kill $i"
	done
	finish "kill $i"
done
echo "SIGKILL: $kills runs; target absent $absent times (with a partial beside it $partial), complete $complete; ended before the signal $early; resumed aloud $resumed"

absent=0 complete=0 partial=0 resumed=0 early=0
interrupts=$((kills / 5 > 0 ? kills / 5 : 1))
for ((i = 0; i < interrupts; i++)); do
	start_and_signal INT "$(delay "$i" "$interrupts")"
	case $status in
	130) ;;
	0) early=$((early + 1)) ;;
	*) fail "interrupt $i: status $status, want 130: $(head -c 300 "$dir/stderr")" ;;
	esac
	check_target "interrupt $i"
	if ((status == 130)) && [[ -e $target ]]; then fail "interrupt $i: status 130 but the target exists"; fi
	finish "interrupt $i"
done
echo "SIGINT: $interrupts runs; target absent $absent times (with a partial beside it $partial), complete $complete; ended before the signal $early; resumed aloud $resumed"

# With --force over an older result: same shards, other weights.
"${base[@]}" --alpha 0.5 -o "$dir/older/out" >/dev/null 2>&1
sums "$dir/older/out" >"$dir/older.sums"
command+=(--force)
old=0 new=0 early=0
for ((i = 0; i < kills; i++)); do
	cp -r "$dir/older/out" "$target"
	((i % 4)) && at=$((duration * 6 / 10 + (duration * 8 / 10) * (i * 32768 + RANDOM) / (kills * 32768))) || at=$(delay "$i" "$kills")
	start_and_signal KILL "$at"
	if ((status == 0)); then early=$((early + 1)); fi
	if sums "$target" >"$dir/sums" 2>/dev/null && cmp -s "$dir/sums" "$dir/older.sums"; then
		old=$((old + 1))
	elif cmp -s "$dir/sums" "$dir/reference.sums"; then
		new=$((new + 1))
	else
		fail "force $i: the target is neither the old result nor the new one"
	fi
	"${command[@]}" -o "$target" >"$dir/stdout" 2>"$dir/stderr" || fail "force $i: the run after it failed: $(head -c 300 "$dir/stderr")"
	sums "$target" >"$dir/sums"
	cmp -s "$dir/sums" "$dir/reference.sums" || fail "force $i: after the run after it, files differ from the new result: $(diff "$dir/sums" "$dir/reference.sums" | grep -c '^<')"
	(($(left) == 0)) || fail "force $i: left beside the target: $(ls -A "$dir/targets" | tr '\n' ' ')"
	rm -rf "$dir/targets"
	mkdir "$dir/targets"
done
echo "SIGKILL with --force: $kills runs; target old $old times, new $new; ended before the signal $early"

if command -v strace >/dev/null; then
	for force in 0 1; do
		command=("${base[@]}" --alpha 0.3)
		((force)) && command+=(--force)
		old=0 new=0 none=0
		for ((n = 1; n <= 200; n++)); do
			((force)) && cp -r "$dir/older/out" "$target"
			status=0
			# A shell of its own keeps "Killed" off the terminal.
			(strace -f -o /dev/null -e trace=fsync,renameat2,renameat,rename,unlinkat -e inject=fsync,renameat2,renameat,rename,unlinkat:signal=KILL:when="$n" \
				"${command[@]}" -o "$target" >"$dir/stdout" 2>"$dir/stderr"; exit $?) 2>/dev/null || status=$?
			if [[ ! -e $target ]]; then
				none=$((none + 1))
				((force)) && fail "strace $n: the older result is gone"
			elif sums "$target" >"$dir/sums" && cmp -s "$dir/sums" "$dir/reference.sums"; then
				new=$((new + 1))
			elif ((force)) && cmp -s "$dir/sums" "$dir/older.sums"; then
				old=$((old + 1))
			else
				fail "strace $n: the target is neither absent nor whole"
			fi
			again=("${command[@]}")
			((force)) || [[ ! -e $target ]] || again+=(--force)
			"${again[@]}" -o "$target" >"$dir/stdout" 2>"$dir/stderr" || fail "strace $n: the run after it failed: $(head -c 300 "$dir/stderr")"
			sums "$target" >"$dir/sums"
			cmp -s "$dir/sums" "$dir/reference.sums" || fail "strace $n: after ${again[*]: -1} again, $(diff "$dir/sums" "$dir/reference.sums" | grep -c '^<') files differ from the new result"
			(($(left) == 0)) || fail "strace $n: left beside the target: $(ls -A "$dir/targets" | tr '\n' ' ')"
			rm -rf "$dir/targets"
			mkdir "$dir/targets"
			((status == 0)) && break
		done
		echo "strace, $( ((force)) && echo "over an older result" || echo "no target"): killed at $((n - 1)) calls; target absent $none times, old $old, new $new"
	done
else
	echo "strace is not installed: the kills at single system calls are left out"
fi

echo "$failures failures"
((failures == 0))
