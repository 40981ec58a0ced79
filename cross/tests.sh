# Sourced by cross/kernel/tests and cross/board/tests: builds the library's tests for another kind of machine, and sums up
# their output. Needs ci/common.sh and cross/common.sh.
# shellcheck shell=bash

# Builds tests for the target $1 and puts them, and the C library that they need, below the folder $2. The others arguments
# name the tests: `lib` for the unit tests, or a file or folder of tests/.
build_tests() {
  local target=$1 folder=$2 gcc name program library
  shift 2
  gcc=$(cross_gcc "$target")
  local selected=()
  for name in "$@"; do
    if [ "$name" = lib ]; then selected+=(--lib); else selected+=(--test "$name"); fi
  done
  rm -rf "$folder"
  mkdir -p "$folder/tests" "$folder/lib"
  # std, for the handlers of pthread_atfork(3); ring, for waiting by io_uring where the kernel has it.
  cross/cargo "$target" test --quiet --no-run --features std,ring "${selected[@]}" --message-format json > "$folder/built.json"
  for name in "$@"; do
    program=$(grep -oE "\"executable\":\"[^\"]*/${name/#lib/resourcelock}-[0-9a-f]+\"" "$folder/built.json" | cut -d '"' -f 4)
    "$gcc-strip" -o "$folder/tests/$name" "$program"
  done
  rm "$folder/built.json"
  for library in $(readelf -ldW "$folder"/tests/* | sed -nE 's/.*(NEEDED.*\[|interpreter: \/lib\/)(.*)\]$/\2/p' | sort -u); do
    cp "/usr/$gcc/lib/$library" "$folder/lib"
  done
}

# Prints the totals of each test program in the log $1, what it skipped and why, and what failed. Fails if the programs named
# by the other arguments have not all passed.
sum_up_tests() {
  local log=$1 name
  shift
  sed -n 's/^KERNEL \(Linux .*\)/\1/p' "$log"
  awk '
    /^TESTS [a-z]+$/ { program = $2 }
    /^test result: / { print program ": " $0 }
    match($0, /passed over: .*/) { skipped[++count] = program ": " substr($0, RSTART + 13) }
    /^test .* \.\.\. ignored/ { sub(/^test /, ""); sub(/ \.\.\. ignored,?/, ":"); skipped[++count] = program ": " $0 }
    /^failures:$/ { failed = 1 }
    /^test result: / { failed = 0 }
    failed || / \.\.\. FAILED$/ || /^in a child: / { print "  " substr($0, 1, 300) }
    END {
      if (count) print "skipped:"
      for (i = 1; i <= count; i++) print "  " skipped[i]
    }' "$log"
  for name in "$@"; do
    grep -qx "TESTS $name: status 0" "$log" || { echo "not passed: $name; see $log" >&2; return 1; }
  done
}
