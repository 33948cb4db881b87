# Sourced: what is made once and kept under ~/.cache/pioedge (or XDG_CACHE_HOME). One process makes it, and
# the others wait; what a killed process leaves behind is removed and made anew. A folder is whole when the
# stamp in it says what it should.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/pioedge

is_whole() { # FOLDER STAMP
  [ "$(cat "$1/stamp" 2> /dev/null)" = "$2" ]
}

# The function is given FOLDER.partial, an empty folder, which gets its name when it is filled.
prepare() { # FOLDER STAMP MESSAGE FUNCTION
  if is_whole "$1" "$2"; then return; fi
  take_turn "$1"
  if ! is_whole "$1" "$2"; then
    echo "$3" >&2
    rm -rf --one-file-system "$1.partial"
    mkdir "$1.partial"
    "$4" "$1.partial"
    echo "$2" > "$1.partial/stamp"
    rm -rf --one-file-system "$1"
    mv "$1.partial" "$1"
  fi
  end_turn
}

# The function is given FOLDER itself, for what must not be moved when it is there. The stamp comes last.
prepare_in_place() { # FOLDER STAMP MESSAGE FUNCTION
  if is_whole "$1" "$2"; then return; fi
  take_turn "$1"
  if ! is_whole "$1" "$2"; then
    echo "$3" >&2
    rm -rf --one-file-system "$1"
    mkdir "$1"
    "$4" "$1"
    echo "$2" > "$1/stamp"
  fi
  end_turn
}

# Children inherit the lock: where only their parent was killed, the next process waits for them to end.
take_turn() { # FOLDER
  mkdir -p "$(dirname "$1")"
  exec {turn}> "$1.lock"
  flock "$turn"
}
end_turn() { exec {turn}>&-; }
