# Sourced: a Debian 13 for arm64 made by debootstrap, and commands in it, each program emulated. Wants `checkout`,
# `fail`, root, and Linux 6.7 or newer: the emulator is registered in a user namespace, not on this machine.
# `on_board_mirrors`, one a line, stand in the root at their own paths.

# shellcheck source=tools/build/debian/arm64.sh
. "$checkout/tools/build/debian/arm64.sh"

on_board_mirrors=''
on_board_process=''

# Runs a command in the board's root. The namespace's users are this machine's: processes of root in it
# may change owners of files, and mount a register of program formats that is theirs alone.
on_board() { # ROOT COMMAND…
  local board=$1 status=0 mapped
  shift
  mapped=$(mktemp -u)
  mkfifo "$mapped"
  # shellcheck disable=SC2016 # expanded by the inner shells
  root=$board qemu=$qemu folders=$on_board_mirrors mapped=$mapped unshare --user bash -c '
    read -r < "$mapped"
    exec unshare --mount --pid --fork --kill-child bash -c "$0" _ "$@"' "$enter_root"'
    mount -t binfmt_misc none "$root/proc/sys/fs/binfmt_misc" \
      || { echo "Linux 6.7 or newer is needed" >&2; exit 1; }
    # An ELF executable of 64 bits, little endian, for aarch64.
    number="\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0"
    mask="\xff\xff\xff\xff\xff\xff\xff\0\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    printf "%s" ":arm64:M::${number//\\0/\\x00}:${mask//\\0/\\x00}:$qemu:OCF" \
      > "$root/proc/sys/fs/binfmt_misc/register"
    # debootstrap makes no devices in what it takes for a container.
    exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 container=lxc \
      DEBIAN_FRONTEND=noninteractive QEMU_CPU=cortex-a76 /usr/sbin/chroot "$root" "$@"' "$@" &
  on_board_process=$!
  while [ "$(readlink "/proc/$on_board_process/ns/user")" = "$(readlink /proc/self/ns/user)" ]; do
    sleep 0.02
  done
  { echo 0 0 65536 > "/proc/$on_board_process/uid_map"; } && { echo 0 0 65536 > "/proc/$on_board_process/gid_map"; } \
    || fail 'no user namespace can be made'
  echo > "$mapped"
  wait "$on_board_process" || status=$?
  rm -f "$mapped"
  on_board_process=''
  return $status
}

make_board() { # ROOT LOG [PACKAGE…]: Debian's base system and these
  local board=$1 log=$2 packages
  shift 2
  packages=$(IFS=,; echo "ca-certificates${*:+,$*}")
  debootstrap --arch=arm64 --variant=minbase --foreign --include="$packages" "$suite" "$board" \
    > "$log" 2>&1 || fail "debootstrap: $(tail -n 3 "$log")"
  if [ -L "$board/proc" ]; then rm "$board/proc"; fi
  mkdir -p "$board/proc"
  on_board "$board" /debootstrap/debootstrap --second-stage > "$log" 2>&1 \
    || fail "debootstrap: $(tail -n 3 "$log")"
}

# For a trap at the end: no process stays behind in a board.
leave_board() {
  [ -z "$on_board_process" ] || kill -KILL "$on_board_process" 2> /dev/null || true
  wait
}
