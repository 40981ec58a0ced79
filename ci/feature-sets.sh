# Sourced: every combination of the features that a library user may choose, and the command's.
# shellcheck shell=bash
# shellcheck disable=SC2034
FEATURE_SETS=(
  "" log defmt std
  "log,defmt" "log,std" "defmt,std" "log,defmt,std"
  embedded-hal "embedded-hal,log" "embedded-hal,defmt" "embedded-hal,std" "embedded-hal,log,defmt,std"
  ring "ring,std" "ring,log,std"
  cli "cli,defmt" "cli,embedded-hal"
)
