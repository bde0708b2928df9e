#!/usr/bin/env bash
# Runs every fuzz target of the tree for the given time each: e2e/fuzz.sh 5s
set -eu -o pipefail
time=${1:?how long each target runs}
found=0
while IFS=: read -r file line; do
	name=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/' <<<"$line")
	found=$((found + 1))
	printf -- '-- %s %s\n' "$(dirname "$file")" "$name"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "./$(dirname "$file")" | { grep -v '^fuzz: elapsed' || true; }
done < <({ grep -rE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' internal || true; } | sort)
echo "fuzz: $found targets, $time each"
