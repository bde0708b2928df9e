#!/usr/bin/env bash
# Runs every fuzz target of the tree: e2e/fuzz.sh 20000x (so many inputs each) or e2e/fuzz.sh 10m (so long each; s, m, h).
#
# The fuzzer itself is always given a number of inputs. A time would end in `context deadline exceeded` now and then,
# without a finding, when the machine is busy: golang.org/issue/75804, in Go before 1.27.
#
# A target whose inputs are slow says so in a comment on the line before it, `// fuzz: 1/10`: the part of the inputs that
# it gets.
set -eu -o pipefail
budget=${1:?how many inputs (20000x) or how long (10m) each target runs}

fuzz() { # directory, target, inputs
	go test -run '^$' -fuzz "^$2\$" -fuzztime "$3x" -fuzzminimizetime 200x -timeout 0 "./$1" | { grep -v '^fuzz: elapsed' || true; }
}

found=0
while IFS=: read -r file line; do
	name=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/' <<<"$line")
	dir=$(dirname "$file")
	found=$((found + 1))
	part=$(grep -B1 -E "^func $name\(" "$file" | sed -nE 's#^// fuzz: 1/([0-9]+)$#\1#p')
	printf -- '-- %s %s\n' "$dir" "$name"
	case $budget in
	*x)
		fuzz "$dir" "$name" $((${budget%x} / ${part:-1}))
		;;
	*)
		seconds=$(sed -E 's/^([0-9]+)s$/\1/; s/^([0-9]+)m$/\1*60/; s/^([0-9]+)h$/\1*3600/' <<<"$budget")
		end=$((SECONDS + seconds))
		inputs=2000
		while left=$((end - SECONDS)) && ((left > 0)); do
			start=$(date +%s%N)
			fuzz "$dir" "$name" $inputs
			took=$((($(date +%s%N) - start) / 1000000 + 1))
			inputs=$((inputs * 1000 / took * (left < 60 ? left : 60) + 1)) # a minute's worth, or what is left
		done
		;;
	esac
done < <({ grep -rE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' internal || true; } | sort)
echo "fuzz: $found targets, $budget each"
