#!/bin/sh
# Runs a CUDA compiler and keeps ptxas's report beside the object file, as <object>.ptxas; all else
# that the compiler says goes where it would have gone.
object=
previous=
for argument in "$@"; do
  if [ "$previous" = -o ]; then object=$argument; fi
  previous=$argument
done
"$@" 2>"$object.ptxas"
status=$?
grep -vE "^ptxas info|bytes stack frame" "$object.ptxas" >&2
exit $status
