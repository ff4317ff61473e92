#!/bin/sh
# Runs `flott demo` over the whole month and over ten days of it, and compares what both say about the hours of these days.
set -eu
flott=${FLOTT:-target/release/flott}
dir=$(mktemp -d)

"$flott" demo --quiet --output "$dir/month" > /dev/null
"$flott" demo --quiet --output "$dir/days" --from 2013-01-10T00:00:00-05:00 --until 2013-01-20T00:00:00-05:00 > /dev/null

# Every revision of every hour from the 10th to the 19th, New York time.
hours() { find "$1/hourly" -name .flott -prune -o -name 'part-*' -print | xargs cat | grep ',2013-01-1[0-9]T' | sort; }
hours "$dir/month" > "$dir/expected"
hours "$dir/days" > "$dir/found"
cmp "$dir/expected" "$dir/found"
echo "the same $(wc -l < "$dir/found") lines about these ten days, of $(find "$dir/month/hourly" -name 'part-*' | xargs cat | wc -l) about the month"
