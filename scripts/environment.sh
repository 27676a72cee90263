# shellcheck shell=bash
# Sourced by the commands beside it: keeps the virtual environment .venv in the repository's root.
# It runs under macOS's bash 3.2 too. Everything that it says goes to standard error.

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
python=$venv/bin/python

# Puts xpnet, with the extras named, into .venv, unless it is there already.
prepare() {
  installed "$@" || ( # one start at a time, where there is a flock; a second one finds the work done
    if command -v flock >/dev/null; then flock 9; fi
    installed "$@" || install "$@"
  ) 9<"$root/pyproject.toml" || exit
}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# What an installation depends on: the repository's place and pyproject.toml, the Python, the NVIDIA driver.
state() {
  {
    echo "$root"
    readlink -f "$python"
    cat "$root/pyproject.toml" "$venv/pyvenv.cfg" /proc/driver/nvidia/version
  } 2>/dev/null | cksum || true
}

# Prints the extras that were installed in the present state; fails where nothing was.
extras_installed() {
  local stamp
  [ -x "$python" ] && { read -r stamp <"$venv/installed"; } 2>/dev/null && [ "${stamp%%:*}" = "$(state)" ] &&
    echo "${stamp#*:}"
}

installed() {
  local extra extras
  extras=$(extras_installed) || return
  for extra; do
    case ",$extras," in *",$extra,"*) ;; *) return 1 ;; esac
  done
}

install() {
  local base cuda extra extras now
  extras=$(extras_installed) || extras=
  for extra; do extras=${extras:+$extras,}$extra; done

  if ! "$python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    base=$(find_python) || return
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
      say "$base has no venv module: install it (Debian and Ubuntu: apt install python3-venv)," \
        "or point to another Python with PYTHON=/path/to/python3"
      return 2
    fi
    say "making .venv with $base, installing xpnet${extras:+[$extras]} there"
    "$base" -m venv --clear "$venv" || return
  else
    say "installing xpnet${extras:+[$extras]} into .venv"
  fi

  rm -f "$venv/installed"
  now=$(state)
  pip_install "$extras" || return
  cuda=$(cuda_extra)
  if [ -n "$cuda" ]; then
    say "installing xpnet[$cuda] for the NVIDIA driver found"
    pip_install "$cuda" ||
      say "xpnet[$cuda] cannot be installed, so the CPU is used; to try again: rm .venv/installed"
  fi
  echo "$now:$extras" >"$venv/installed" # last: an installation that was cut off is done again
}

# Installs xpnet with a comma-separated list of extras; pip is heard only when it fails.
pip_install() {
  local output
  output=$(cd "$root" && "$python" -m pip install --disable-pip-version-check --editable ".${1:+[$1]}" 2>&1) || {
    printf '%s\n' "$output" >&2
    return 1
  }
}

# Prints the name of a Python that runs and is new enough.
find_python() {
  local candidate version found=
  set -- python3 python3.14 python3.13 python3.12 python3.11
  [ -z "${PYTHON:-}" ] || set -- "$PYTHON"
  for candidate; do
    command -v "$candidate" >/dev/null || continue
    version=$("$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) ||
      version="does not run" # such as pyenv's shim of a version that is not selected
    case $version in
      3.1[1-9].* | 3.[2-9][0-9].*) echo "$candidate" && return ;;
    esac
    found="${found:+$found, }$candidate ($version)"
  done
  say "Python 3.11 or newer is needed, found ${found:-none of $*}; point to one with PYTHON=/path/to/python3"
  return 2
}

# Prints the extra that suits the NVIDIA driver, or nothing.
cuda_extra() {
  local version
  version=$("$python" -c '
import ctypes, sys
version = ctypes.c_int()
failure = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
sys.exit(failure or print(version.value))' 2>/dev/null) || return 0
  if [ "$version" -ge 13000 ]; then
    echo cuda13
  elif [ "$version" -ge 12000 ]; then
    echo cuda12
  else
    say "the NVIDIA driver supports only CUDA $((version / 1000)), not 12 or newer, so the CPU is used"
  fi
}
