# Sourced by cross/board/run and cross/board/tests: the board. Needs ci/common.sh.
# shellcheck shell=bash

readonly BOARD=target/board

# Has in $BOARD what the board boots from: vmlinuz, imx6q-sabrelite.dtb, busybox, and the modules *.ko.
fetch_board() {
  local unpacked=$BOARD/unpacked
  need_packages qemu-system-arm cpio
  cross/foreign-packages armhf "$BOARD" linux-image-armmp busybox-static
  rm -rf "$unpacked"
  mkdir "$unpacked"
  dpkg --fsys-tarfile "$BOARD/linux-image-armmp.deb" | tar -x -C "$unpacked" --wildcards \
    './boot/vmlinuz-*' '*/imx6q-sabrelite.dtb' '*/i2c-imx.ko' '*/i2c-dev.ko' '*/overlay.ko'
  dpkg -x "$BOARD/busybox-static.deb" "$unpacked"
  find "$unpacked" -name '*.ko' -exec cp {} "$BOARD" \;
  cp "$unpacked"/boot/vmlinuz-* "$BOARD/vmlinuz"
  cp "$unpacked"/usr/lib/linux-image-*/imx6q-sabrelite.dtb "$unpacked/bin/busybox" "$BOARD"
  rm -r "$unpacked"
}

# Boots the board with the folder $1 as its root, until its console shows a line that begins with $2, for at most $3 seconds.
# Ends the board, and leaves the console's text in the file $4. Fails if there was no such line.
boot_board() {
  local root=$1 last_line=$2 seconds=$3 log=$4 board tenths is_done=
  (cd "$root" && find . | cpio --quiet -o -H newc) > "$BOARD/initramfs"
  : > "$log.raw"
  qemu-system-arm -M sabrelite -smp 4 -m 512 -kernel "$BOARD/vmlinuz" -dtb "$BOARD/imx6q-sabrelite.dtb" \
    -initrd "$BOARD/initramfs" -append "console=ttymxc0,115200 panic=-1 quiet" \
    -device tmp105,bus=i2c-bus.0,address=0x50 -display none -monitor none -nodefaults -serial "file:$log.raw" &
  board=$!
  # shellcheck disable=SC2064 # this board
  trap "kill $board 2> /dev/null || true" EXIT
  # The machine does not switch itself off: its last line says that it is done.
  for ((tenths = 0; tenths < 10 * seconds; tenths++)); do
    ! grep -q "^$last_line" "$log.raw" || { is_done=1; break; }
    kill -0 "$board" || { echo "QEMU has ended" >&2; break; }
    sleep 0.1
  done
  kill "$board" 2> /dev/null || true
  tr -d '\r' < "$log.raw" > "$log"
  [ -n "$is_done" ] || { echo "after $((tenths / 10)) s, the board has not printed: $last_line" >&2; return 1; }
}
