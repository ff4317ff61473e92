#!/bin/sh
# Kills `flott demo --exactly-once` twice with SIGKILL, lets it end, and compares what it has committed with an undisturbed run.
set -eu
flott=${FLOTT:-target/release/flott}
speed=${SPEED:-400000} # the month in 7 seconds
wait=${WAIT:-2}
dir=$(mktemp -d)

# The lines of all files with names, without headers.
lines() { find "$1" -name .flott -prune -o -name 'part-*' -print | xargs -r cat | grep -v '^[a-z_]*,[a-z_]*,' | sort; }

"$flott" demo --exactly-once --quiet --output "$dir/whole" > "$dir/whole.txt"
for kill in first second; do
    "$flott" demo --exactly-once --quiet --speed "$speed" --output "$dir/killed" > /dev/null &
    sleep "$wait"
    kill -9 $!
    wait $! 2> /dev/null || true
    echo "$kill kill -9: $(lines "$dir/killed" | wc -l) lines are committed"
done
"$flott" demo --exactly-once --quiet --speed "$speed" --output "$dir/killed"

lines "$dir/whole" > "$dir/expected"
lines "$dir/killed" > "$dir/committed"
cmp "$dir/expected" "$dir/committed"
echo "the same $(wc -l < "$dir/expected") lines as without a kill; see also: sqlite3 $dir/killed/flights.db 'SELECT * FROM sessions'"
