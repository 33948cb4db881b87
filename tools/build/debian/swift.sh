# Sourced: Debian 13's Swift 6.0.3 for x86-64 in a root of its own under ~/.cache/pioedge (or
# XDG_CACHE_HOME). Wants `checkout`, the folder to build in, and `fail`.

# shellcheck source=tools/build/debian/packages.sh
. "$checkout/tools/build/debian/packages.sh"

swift_home=${XDG_CACHE_HOME:-$HOME/.cache}/pioedge/swift-6.0.3
swift_root=$swift_home/root
# The stamp names what a finished root holds: raise the number when the steps below change.
swift_stamp="1-$suite-6.0.3"
swift_packages=(swiftlang git ca-certificates bash dash coreutils sed grep findutils base-files
  pkgconf libc6-dev "libstdc++-$gcc-dev" libjpeg62-turbo-dev libpng-dev zlib1g-dev
  libopenblas0-pthread)
# Half of what they hold: debuggers, language servers, embedded Swift, documentation.
swift_unwanted=('./usr/share/doc/*' './usr/share/man/*' './usr/share/locale/*'
  '*/libexec/swift/bin/*lldb*' '*/libexec/swift/lib/liblldb*' '*/libexec/swift/bin/clangd'
  '*/libexec/swift/bin/sourcekit-lsp' '*/libexec/swift/bin/swift-format'
  '*/libexec/swift/bin/docc' '*/libexec/swift/bin/repl_swift' '*/lib/swift/embedded/*'
  '*/lib/libsourcekitdInProc*' '*/python3*')

# The root that the compiler runs in.
make_swift_root() {
  local top libraries=usr/lib/x86_64-linux-gnu
  rm -rf "$swift_root"
  for top in bin sbin lib lib64; do # first, because packages name /lib and /usr/lib alike
    mkdir -p "$swift_root/usr/$top"
    ln -s "usr/$top" "$swift_root/$top"
  done
  configure_apt "$swift_home" amd64
  fetch "$swift_home" amd64 "${swift_packages[@]}"
  unpack_all "$swift_home" amd64 "$swift_root" "${swift_unwanted[@]/#/--exclude=}"

  # What the packages' maintainer scripts would have linked.
  ln -sf ../libexec/swift/bin/swift "$swift_root/usr/bin/swift"
  ln -sf openblas-pthread/libopenblas.so.0 "$swift_root/$libraries/libopenblas.so.0"
  ldconfig -r "$swift_root"

  mkdir -p "$swift_root"/{proc,dev,tmp,root,etc/ssl/certs}
  chmod 1777 "$swift_root/tmp"
  echo 'root:x:0:0:root:/root:/bin/bash' > "$swift_root/etc/passwd"
  echo 'root:x:0:' > "$swift_root/etc/group"
}

prepare_swift() {
  [ "$(uname -m)" = x86_64 ] || fail "made for x86-64; on an arm64 Debian 13, apt install swiftlang"
  [ "$(id -u)" = 0 ] || fail "needs root (mounts and chroot): sudo $0"
  prepare_once "$swift_home" "$swift_stamp" \
    "Preparing Swift 6.0.3 in $swift_home (about 1 GB of Debian packages) …" make_swift_root
}

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

# Runs a command in the root; the checkout, `swift_folders` and local package mirrors stand at their
# own paths. Mounts are made in a private mount namespace.
in_swift_root() { # COMMAND…
  local mirrors
  mirrors=$(share_network "$swift_root")
  # shellcheck disable=SC2016 # expanded by the inner shells
  root=$swift_root checkout=$checkout folders="$mirrors
${swift_folders:-}" unshare --mount bash -c '
    set -e
    while read -r folder; do
      [ -n "$folder" ] || continue
      mkdir -p "$root$folder"
      mount --rbind "$folder" "$root$folder"
    done <<< "$checkout
$folders"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    exec env -i HOME=/root PATH=/usr/bin:/bin TERM=dumb LANG=C.UTF-8 \
      ${PIOEDGE_BLAS:+PIOEDGE_BLAS="$PIOEDGE_BLAS"} \
      /usr/sbin/chroot "$root" /bin/bash -c "cd \"\$0\" && exec \"\$@\"" "$checkout" "$@"' _ "$@"
}
