# Sourced: Debian 13's Swift 6.0.3 for x86-64 in a root of its own under ~/.cache/pioedge (or
# XDG_CACHE_HOME). Wants `checkout`, the folder to build in, and `fail`.

# shellcheck source=tools/build/debian/packages.sh
. "$checkout/tools/build/debian/packages.sh"
# shellcheck source=tools/build/debian/root.sh
. "$checkout/tools/build/debian/root.sh"

swift_home=$cache/swift-6.0.3
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
make_swift_root() { # HOME
  local top root=$1/root libraries=usr/lib/x86_64-linux-gnu
  for top in bin sbin lib lib64; do # first, because packages name /lib and /usr/lib alike
    mkdir -p "$root/usr/$top"
    ln -s "usr/$top" "$root/$top"
  done
  configure_apt "$1" amd64
  fetch "$1" amd64 "${swift_packages[@]}"
  unpack_all "$1" amd64 "$root" "${swift_unwanted[@]/#/--exclude=}"
  rm -rf "$1"/apt-*

  # What the packages' maintainer scripts would have linked.
  ln -sf ../libexec/swift/bin/swift "$root/usr/bin/swift"
  ln -sf openblas-pthread/libopenblas.so.0 "$root/$libraries/libopenblas.so.0"
  ldconfig -r "$root"

  mkdir -p "$root"/{proc,dev,tmp,root,etc/ssl/certs}
  chmod 1777 "$root/tmp"
  echo 'root:x:0:0:root:/root:/bin/bash' > "$root/etc/passwd"
  echo 'root:x:0:' > "$root/etc/group"
}

prepare_swift() {
  [ "$(uname -m)" = x86_64 ] || fail "made for x86-64; on an arm64 Debian 13, apt install swiftlang"
  [ "$(id -u)" = 0 ] || fail "needs root (mounts and chroot): sudo $0"
  prepare "$swift_home" "$swift_stamp" \
    "Preparing Swift 6.0.3 in $swift_home (about 1 GB of Debian packages) …" make_swift_root
}

# Runs a command in the root, in the checkout; that, `swift_folders` and local package mirrors stand at
# their own paths.
in_swift_root() { # COMMAND…
  local root_folders root_environment=(${PIOEDGE_BLAS:+PIOEDGE_BLAS="$PIOEDGE_BLAS"})
  root_folders="$checkout
$(share_network "$swift_root")
${swift_folders:-}"
  # shellcheck disable=SC2016 # expanded by the inner shell
  in_root "$swift_root" /bin/bash -c 'cd "$0" && exec "$@"' "$checkout" "$@"
}
