#!/bin/sh
# Prints the path of a Chromium. The first of: $CHROMIUM, a browser on PATH, one in macOS's
# Applications; else, on Debian as root, Debian's own package is installed. All other output goes to
# stderr.
set -eu

find_chromium() {
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" && return
  done
  for folder in /Applications "${HOME:-}/Applications"; do
    for app in "Chromium" "Google Chrome"; do
      if [ -x "$folder/$app.app/Contents/MacOS/$app" ]; then
        printf '%s\n' "$folder/$app.app/Contents/MacOS/$app"
        return
      fi
    done
  done
  return 1
}

if [ -n "${CHROMIUM:-}" ]; then
  command -v "$CHROMIUM" || {
    echo "CHROMIUM=$CHROMIUM is no program: name a Chromium, or unset it." >&2
    exit 1
  }
  exit
fi

find_chromium && exit

if [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then
  echo "No Chromium found: installing Debian's." >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -y -qq chromium >&2
  find_chromium && exit
fi

if [ "$(uname)" = Darwin ]; then
  fix="install Google Chrome, or 'brew install --cask chromium'"
else
  fix="run 'sudo apt-get install chromium'"
fi
echo "No Chromium found: $fix, or set CHROMIUM to the path of one." >&2
exit 1
