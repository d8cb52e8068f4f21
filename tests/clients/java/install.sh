#!/bin/sh
# Fetches the Java client that pom.xml names into lib/. JDK and Maven are installed, on Debian as
# root, where they are missing. All output goes to stderr.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
exec >&2

if ! command -v javac >/dev/null || ! command -v mvn >/dev/null; then
  if [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then
    echo "No JDK or no Maven found: installing Debian's."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq default-jdk-headless maven
  elif [ "$(uname)" = Darwin ]; then
    echo "No JDK or no Maven found: run 'brew install openjdk maven'."
    exit 1
  else
    echo "No JDK or no Maven found: run 'sudo apt-get install default-jdk-headless maven'."
    exit 1
  fi
fi

if [ "$here/lib/.fetched" -nt "$here/pom.xml" ]; then
  exit
fi
rm -rf "$here/lib"
mvn --quiet --batch-mode --file "$here/pom.xml" dependency:copy-dependencies \
  -DoutputDirectory="$here/lib"
touch "$here/lib/.fetched"
