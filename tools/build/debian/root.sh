# Sourced: commands in a root of Debian's, as on a machine of its own.

# Runs a command in a root as root with nothing of this machine's environment but `root_environment`
# (NAME=VALUE, one an element). `root_folders`, one a line, stand in it at their own paths, those behind a
# `-` for reading only. Mounts are made in a private mount namespace, and with the command all processes
# that it started end.
in_root() { # ROOT COMMAND…
  # shellcheck disable=SC2016 # expanded by the inner shell
  root=$1 folders=${root_folders:-} unshare --mount --pid --fork --kill-child bash -c "$enter_root"'
    exec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
      LANG=C.UTF-8 "$@"' _ "${root_environment[@]}" /usr/sbin/chroot "$@"
}
root_environment=()

# Expanded by a shell of a private mount namespace, with `root` and `folders` in its environment.
# shellcheck disable=SC2016
enter_root='
  set -e
  while read -r folder; do
    [ -n "$folder" ] || continue
    path=${folder#-}
    if [ -d "$path" ]; then
      mkdir -p "$root$path"
    else
      mkdir -p "$(dirname "$root$path")"
      touch "$root$path"
    fi
    mount --rbind "$path" "$root$path"
    [ "$folder" = "$path" ] || mount -o remount,bind,ro "$root$path"
  done <<< "$folders"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
'

# Git inside a root reaches what git outside reaches: the same rewritten addresses, which may lead
# to folders of this machine (printed one a line, to be mounted), names and certificates.
share_network() { # ROOT
  local key value target
  local config=$1/root/.gitconfig
  printf '[safe]\n  directory = *\n' > "$config"
  { git config --get-regexp '^url\..*\.insteadof$' || true; } | while read -r key value; do
    target=${key#url.}
    target=${target%.insteadof}
    printf '[url "%s"]\n  insteadOf = %s\n' "$target" "$value" >> "$config"
    target=${target#file://}
    if [ -d "$target" ]; then echo "$target"; fi
  done | sort -u
  cp -Lf /etc/resolv.conf /etc/hosts "$1/etc/" 2> /dev/null || true
  cp -Lf /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/" 2> /dev/null || true
}
