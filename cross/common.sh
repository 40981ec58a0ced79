# Sourced by what builds for another kind of machine: the compiler, the linkers and the emulators, from Debian's packages.
# Needs ci/common.sh.
# shellcheck shell=bash

# The compiler whose source Debian has, too: rustup's standard libraries for other machines are not everywhere to be had,
# so cargo builds them (build-std).
readonly CROSS_RUST=1.96

# target: Debian's cross compiler (it links), and how its programs run here.
cross_gcc() {
  case $1 in
    arm-unknown-linux-gnueabihf | armv7-unknown-linux-gnueabihf) echo arm-linux-gnueabihf ;;
    aarch64-unknown-linux-gnu) echo aarch64-linux-gnu ;;
    i686-unknown-linux-gnu) echo i686-linux-gnu ;;
    x86_64-unknown-linux-gnu) echo x86_64-linux-gnu ;;
    *) echo "no cross compiler for $1 is known here" >&2; return 1 ;;
  esac
}

cross_runner() {
  case $1 in
    # The processor of a Pi Zero: a program that is not true ARMv6 dies of SIGILL. So does Debian's libc, which is ARMv7:
    # this is for programs without one.
    arm-unknown-linux-gnueabihf) echo "qemu-arm-static -cpu arm1176" ;;
    armv7-unknown-linux-gnueabihf) echo "qemu-arm-static -L /usr/arm-linux-gnueabihf" ;;
    aarch64-unknown-linux-gnu) echo "qemu-aarch64-static -L /usr/aarch64-linux-gnu" ;;
  esac
}

# Has cargo build for the target $1, with what it needs installed. Fails also where `set -e` is off.
cross_environment() {
  local gcc runner prefix
  gcc=$(cross_gcc "$1") || return
  runner=$(cross_runner "$1")
  case $1 in
    x86_64-*) need_packages gcc libc6-dev ;;
    i686-*) need_packages gcc-i686-linux-gnu libc6-dev-i386-cross ;;
    arm*) need_packages gcc-arm-linux-gnueabihf libc6-dev-armhf-cross qemu-user-static ;;
    aarch64-*) need_packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static ;;
  esac || return
  cross/debian-rust "$CROSS_RUST" "target/rust-$CROSS_RUST" src > /dev/null || return
  # build-std is for nightly compilers, or for those that are told that they are one.
  export RUSTC=$PWD/target/rust-$CROSS_RUST/rustc RUSTDOC=$PWD/target/rust-$CROSS_RUST/rustdoc RUSTC_BOOTSTRAP=1
  prefix=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<< "$1")
  export "${prefix}_LINKER=$gcc-gcc"
  [ -z "$runner" ] || export "${prefix}_RUNNER=$runner"
}

# Fails if the program $1 cannot run with pages of 64 KiB: if two of its PT_LOAD segments share such a page, or if one is
# not at the same place within its page in memory as in the file.
check_pages() {
  local page=65536 last=-1 type offset address size
  while read -r type offset address _ _ size _; do
    [ "$type" = LOAD ] || continue
    if ((address / page <= last)); then
      echo "$1: the segment at $address shares a page of $((page / 1024)) KiB with the segment before it" >&2
      return 1
    fi
    if (((address - offset) % page != 0)); then
      echo "$1: the segment at $address cannot be mapped from $offset of the file with pages of $((page / 1024)) KiB" >&2
      return 1
    fi
    last=$(((address + size - 1) / page))
  done < <(readelf -lW "$1")
  ((last >= 0)) || { echo "$1: no segments" >&2; return 1; }
}
