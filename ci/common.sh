# Sourced by every check: strictness, the repository as the current directory, and how a Debian package gets here.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Installs Debian packages that are not there yet. A mirror in the middle of an update gives a hash error: try again.
need_packages() {
  local missing=() package try
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ]; then
    echo "missing: ${missing[*]}; install with apt-get" >&2
    return 1
  fi
  for try in 1 2 3; do
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
      return
    fi
    echo "installing ${missing[*]}: try $try failed" >&2
  done
  return 1
}

# The command of README's fenced shell block that follows the line which contains $1.
readme_command() {
  awk -v heading="$1" '
    index($0, heading) { seen = 1 }
    seen && /^```sh$/ { inside = 1; next }
    inside && /^```$/ { exit }
    inside { print }
  ' README.md
}
