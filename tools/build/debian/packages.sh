# Sourced: packages of another Debian suite or architecture, unpacked into a folder. Nothing is
# installed on the machine, and no maintainer script runs. Wants `checkout`.

# shellcheck source=tools/build/cache.sh
. "$checkout/tools/build/cache.sh"

suite=trixie
gcc=14

# A configuration of apt for one architecture of the suite, apart from the machine's own.
configure_apt() { # HOME ARCH [SUITE]
  local dir=$1/apt-$2 sources=/etc/apt/sources.list.d/debian.sources mirror="" key=""
  if [ -r "$sources" ]; then
    mirror=$(sed -n 's/^URIs: *//p' "$sources" | head -n 1)
    key=$(sed -n 's/^Signed-By: *//p' "$sources" | head -n 1)
  fi
  mkdir -p "$dir"/{lists,archives}/partial "$dir"/{sources,preferences}
  : > "$dir/status"
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: %s\nSigned-By: %s\n' \
    "${mirror:-http://deb.debian.org/debian}" "${3:-$suite}" "$2" \
    "${key:-/usr/share/keyrings/debian-archive-keyring.gpg}" > "$dir/sources/suite.sources"
  cat > "$dir/apt.conf" << END
#clear APT::Architectures;
APT::Architecture "$2";
APT::Architectures { "$2"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Dir::State "$dir"; Dir::State::lists "$dir/lists"; Dir::State::status "$dir/status";
Dir::Cache "$dir"; Dir::Cache::archives "$dir/archives";
Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts "$dir/sources";
Dir::Etc::preferencesparts "$dir/preferences";
Acquire::Languages "none"; Acquire::Retries "3";
END
  APT_CONFIG=$dir/apt.conf apt-get -qq update
}

# Downloads packages and all they depend on into the architecture's archives folder.
fetch() { # HOME ARCH PACKAGE…
  local dir=$1/apt-$2
  shift 2
  APT_CONFIG=$dir/apt.conf apt-get -qq -y --download-only install "$@" > "$dir/log"
}

# Downloads packages alone; they lie in the architecture's folder.
fetch_alone() { # HOME ARCH PACKAGE…
  local dir=$1/apt-$2
  shift 2
  (cd "$dir" && APT_CONFIG=$dir/apt.conf apt-get -qq download "$@")
}

unpack() { # FOLDER PACKAGE-FILE TAR-OPTION…
  local folder=$1 package=$2
  shift 2
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$folder" --keep-directory-symlink "$@"
}

unpack_all() { # HOME ARCH FOLDER TAR-OPTION…
  local archives=$1/apt-$2/archives folder=$3 package
  shift 3
  for package in "$archives"/*.deb; do unpack "$folder" "$package" "$@"; done
}
