# Sourced: what Swift 6.0.3 needs to build for aarch64, and qemu's user emulator to run it, under
# ~/.cache/pioedge/arm64 (or XDG_CACHE_HOME). Wants `checkout` and `fail`.

# shellcheck source=tools/build/debian/swift.sh
. "$checkout/tools/build/debian/swift.sh"

arm_home=$cache/arm64
arm_sdks=$arm_home/sdks
arm_bundle=$arm_sdks/debian13.artifactbundle
arm_sysroot=$arm_bundle/d13/sysroot
arm_triple=aarch64-linux-gnu
qemu=$arm_home/qemu/usr/bin/qemu-aarch64
# Raise the number when the steps below change.
arm_stamp="1-$suite-arm64"
arm_packages=(libswiftlang libc6-dev "libgcc-$gcc-dev" "libstdc++-$gcc-dev" linux-libc-dev
  libjpeg62-turbo-dev libpng-dev zlib1g-dev libopenblas0-pthread libopenblas-serial-dev)

make_arm_sdk() { # HOME
  local part sysroot=$1${arm_sysroot#"$arm_home"}
  local lib=$sysroot/usr/libexec/swift/lib
  mkdir -p "$sysroot/usr/lib" "$1/qemu"
  ln -s usr/lib "$sysroot/lib" # libc.so, a linker script, and programs name /lib
  configure_apt "$1" arm64
  fetch "$1" arm64 "${arm_packages[@]}"
  unpack_all "$1" arm64 "$sysroot" --exclude='./usr/share/*' --exclude='./usr/bin/*' \
    --exclude='./etc/*'
  # libswiftlang holds the shared libraries alone; modules and archives are in the compiler's
  # package.
  fetch_alone "$1" arm64 swiftlang
  unpack "$sysroot" "$1"/apt-arm64/swiftlang_*.deb --wildcards \
    './usr/libexec/swift/lib/swift' './usr/libexec/swift/lib/swift_static' \
    './usr/libexec/swift/lib/clang' --exclude='*/swift/embedded/*' --exclude='*/swift/host/*' \
    --exclude='*/swift/migrator/*' --exclude='*/FrameworkABIBaseline/*'
  for part in swift swift_static clang; do mv "$lib/$part" "$sysroot/usr/lib/$part"; done
  # The list of what a static executable links names three archives that the package does not have.
  sed -i '/-licu.*swift/d' "$sysroot/usr/lib/swift_static/linux/static-executable-args.lnk"
  # What the packages' maintainer scripts would have linked.
  ln -sf openblas-pthread/libopenblas.so.0 "$sysroot/usr/lib/$arm_triple/libopenblas.so.0"
  # Debian 12's qemu 7.2 lacks the models of cores with i8mm; this one is linked statically.
  configure_apt "$1" amd64
  fetch_alone "$1" amd64 qemu-user
  unpack "$1/qemu" "$1"/apt-amd64/qemu-user_*.deb --wildcards './usr/bin/qemu-aarch64'
  rm -rf "$1"/apt-*
}

# Others may be reading them: each file is put in its place whole.
write_arm_sdk() {
  write_whole "$arm_bundle/info.json" << 'END'
{ "schemaVersion": "1.0", "artifacts": { "debian13-aarch64": { "type": "swiftSDK", "version": "1",
  "variants": [ { "path": "d13" } ] } } }
END
  write_whole "$arm_bundle/d13/swift-sdk.json" << 'END'
{ "schemaVersion": "4.0", "targetTriples": { "aarch64-unknown-linux-gnu": {
  "sdkRootPath": "sysroot", "swiftResourcesPath": "sysroot/usr/lib/swift",
  "swiftStaticResourcesPath": "sysroot/usr/lib/swift_static",
  "toolsetPaths": ["toolset.json"] } } }
END
  # Revisions of the Cortex-A53 that are in use (Raspberry Pi 3, RK3399) have two errata that
  # compilers and linkers avoid when told: 835769, a wrong 64-bit multiply-add behind a load, and
  # 843419, a wrong address from adrp at the end of a page.
  write_whole "$arm_bundle/d13/toolset.json" << 'END'
{ "schemaVersion": "1.0",
  "swiftCompiler": { "extraCLIOptions":
    ["-use-ld=lld", "-Xcc", "-mfix-cortex-a53-835769"] },
  "cCompiler": { "extraCLIOptions": ["-mfix-cortex-a53-835769"] },
  "linker": { "extraCLIOptions": ["--fix-cortex-a53-843419"] } }
END
}

write_whole() { # FILE: from standard input
  cat > "$1.$$"
  mv "$1.$$" "$1"
}

prepare_arm() {
  prepare_swift
  prepare "$arm_home" "$arm_stamp" \
    "Preparing the aarch64 libraries and qemu in $arm_home (about 500 MB of Debian packages) …" \
    make_arm_sdk
  write_arm_sdk
}

# `swift build` of the checkout for aarch64 in a folder of its own.
cross_build() { # SCRATCH OPTION…
  local scratch=$1
  shift
  mkdir -p "$scratch"
  swift_folders=$arm_home${swift_folders:+
$swift_folders} in_swift_root swift build --swift-sdks-path "$arm_sdks" --swift-sdk debian13-aarch64 \
    --scratch-path "$scratch" "$@"
}

# Debian 12: an arm64 root of a few programs, and for this machine its qemu 7.2, which takes plugins, as
# Debian 13's cannot.
debian12_home=$cache/debian12
debian12_root=$debian12_home/root
qemu7_root=$debian12_home/qemu7
qemu7="$qemu7_root/lib64/ld-linux-x86-64.so.2 --library-path $qemu7_root/usr/lib/x86_64-linux-gnu \
$qemu7_root/usr/bin/qemu-aarch64"

make_debian12() { # HOME
  local root top
  for root in "$1/root" "$1/qemu7"; do
    for top in bin sbin lib lib64; do
      mkdir -p "$root/usr/$top"
      ln -s "usr/$top" "$root/$top"
    done
  done
  configure_apt "$1" arm64 bookworm
  fetch "$1" arm64 base-files bash coreutils libc-bin
  unpack_all "$1" arm64 "$1/root" --exclude='./usr/share/*'
  configure_apt "$1" amd64 bookworm
  fetch "$1" amd64 qemu-user
  unpack_all "$1" amd64 "$1/qemu7" --exclude='./usr/share/*'
  rm -rf "$1"/apt-*
  mkdir -p "$1/root"/{proc,dev,work}
}

prepare_debian12() {
  prepare "$debian12_home" '1-bookworm' "Preparing a Debian 12 in $debian12_home …" make_debian12
}
