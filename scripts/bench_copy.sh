#!/usr/bin/env bash
# Times expo extrapolate against the least that the job could cost: reading one
# model and copying the other.
#
#   scripts/bench_copy.sh [DIR]
#
# Needs: bash, coreutils, awk, GNU time (/usr/bin/time), Go unless EXPO is set.
# DIR (default $TMPDIR or /tmp) is where a temporary folder is made; it needs
# room for three models of SIZE_GB. Environment:
#
#   EXPO      the program (default: built from this repository)
#   SIZE_GB   bytes of each model in 10^9 (default 3); Llama-7B's shapes
#   SHARDS    files per model (default 4)
#   ROUNDS    rounds that are timed, after one that is not (default 5)
#   ALPHA     default 0.3
#   BIG=1     also measures the peak memory on a 14 GB pair (42 GB of disk)
#   PEAK_GB   the size for the first peak memory figure (default 2)
#   PAIR      a directory with sft/ and aligned/, to time that pair and make
#             none; SIZE_GB and SHARDS are not used then
#
# Both inputs are read into the page cache before each run. A round runs, in an order
# that rotates, (1) cat sft/* >/dev/null; cp aligned/* out/  (2) expo
# extrapolate  (3) expo extrapolate --no-digest  (4) expo extrapolate
# --no-digest --no-sync  and (5) as (1), then sync of the written files. Like
# for like are (4) with (1), which leaves its output to the page cache, and (3)
# with (5). Outputs are deleted and dirty pages written back between
# the runs, outside of what is timed. Then as much memory as the output needs is
# written to and freed: a virtual machine gives what is free back to its host
# within seconds, and whoever writes to it first afterwards waits for the host,
# longer than for anything else here.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
size_gb=${SIZE_GB:-3} shards=${SHARDS:-4} rounds=${ROUNDS:-5} alpha=${ALPHA:-0.3} peak_gb=${PEAK_GB:-2}
export LC_ALL=C

dir=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/bench-copy.XXXXXX")
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

(cd "$repo" && go build -o "$dir/makepair" ./scripts/makepair)
expo=${EXPO:-}
if [[ -z $expo ]]; then
	(cd "$repo" && go build -o "$dir/expo" ./cmd/expo)
	expo=$dir/expo
fi

# Wall-clock seconds of a command, to stdout; its own stdout is dropped.
seconds() {
	local start end
	start=$(date +%s.%N)
	"$@" >/dev/null
	end=$(date +%s.%N)
	awk -v a="$start" -v b="$end" 'BEGIN { printf "%.3f", b - a }'
}

copy() {
	cat "$dir"/sft/* >/dev/null
	mkdir "$dir/out"
	cp "$dir"/aligned/* "$dir/out/"
}

copy_sync() {
	copy
	sync "$dir"/out/*
}

extrapolate() {
	"$expo" extrapolate --sft "$dir/sft" --aligned "$dir/aligned" --alpha "$alpha" -o "$dir/out" "$@" 2>"$dir/stderr" || {
		cat "$dir/stderr" >&2
		return 1
	}
}

no_digest() { extrapolate --no-digest; }

bare() { extrapolate --no-digest --no-sync; }

between() {
	rm -rf "$dir/out"
	sync -f "$dir"
	cat "$dir"/sft/* "$dir"/aligned/* >/dev/null
	head -c "$((bytes + bytes / 4))" /dev/zero >"$dir/memory"
	rm "$dir/memory"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

peak() { # peak resident set of one run, by GNU time -v
	between
	/usr/bin/time -v "$expo" extrapolate --sft "$dir/sft" --aligned "$dir/aligned" --alpha "$alpha" -o "$dir/out" >/dev/null 2>"$dir/time" || {
		cat "$dir/time" >&2
		return 1
	}
	awk -F': ' '/Maximum resident/ { r = $2 } /Elapsed/ { e = $NF } END { printf "peak RSS %.1f MiB, %s\n", r / 1024, e }' "$dir/time"
	between
}

make_pair() { # size in GB
	rm -rf "$dir/sft" "$dir/aligned"
	"$dir/makepair" -o "$dir" -bytes "${1}e9" -shards "$shards"
	sync -f "$dir"
}

echo "machine: $(nproc) CPUs, $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(awk '/MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo), $(df --output=fstype "$dir" | tail -1) in $dir"
if [[ -n ${PAIR:-} ]]; then
	ln -s "$(realpath "$PAIR")/sft" "$(realpath "$PAIR")/aligned" "$dir/"
else
	make_pair "$size_gb"
fi
bytes=$(cat "$dir"/sft/*.safetensors | wc -c)

ways=(copy extrapolate no_digest bare copy_sync)
for way in "${ways[@]}"; do : >"$dir/$way.times"; done
printf '%-6s %12s %12s %12s %12s %12s   seconds\n' round cat+cp expo no-digest no-dig-sync cat+cp+sync
for ((round = 0; round <= rounds; round++)); do
	declare -A t=()
	for ((i = 0; i < ${#ways[@]}; i++)); do
		way=${ways[(i + round) % ${#ways[@]}]}
		between
		t[$way]=$(seconds "$way")
		((round == 0)) || echo "${t[$way]}" >>"$dir/$way.times"
	done
	printf '%-6s %12s %12s %12s %12s %12s%s\n' "$round" "${t[copy]}" "${t[extrapolate]}" "${t[no_digest]}" "${t[bare]}" "${t[copy_sync]}" "$( ((round)) || echo '   (not counted)')"
done
between
for way in "${ways[@]}"; do
	paste -d' ' "$dir/$way.times" "$dir/copy.times" | awk '{ print $1 / $2 }' | median >"$dir/$way.ratio"
	m=$(median <"$dir/$way.times")
	awk -v w="$way" -v m="$m" -v b="$bytes" -v r="$(cat "$dir/$way.ratio")" \
		'BEGIN { printf "%-12s median %.3f s, %.2f GB/s (read 2, write 1), median ratio to cat+cp %.3f\n", w, m, 3 * b / m / 1e9, r }'
done

make_pair "$peak_gb"
echo "$peak_gb GB pair: $(peak)"
if [[ ${BIG:-} == 1 ]]; then
	make_pair 14
	echo "14 GB pair: $(peak)"
fi
