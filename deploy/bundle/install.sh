#!/bin/sh
# Install Accord from this bundle, without a network, once every file in it was verified.
#   ./install.sh --key bundle.pub --to /opt/accord [--for registry|aggregator|node|node,steward|coordinator]
# With --for, what one process needs and no more: the registry's machine gets no torch.
# The public key must come to you another way than the bundle (by telephone, its SHA-256). This
# script is in the bundle too: who must not run it unverified types the first two checks by hand;
# OPERATING.md has them. Needs Python 3.11 or 3.12 with venv, openssl 3, coreutils.
set -eu
umask 022

refuse() { echo "bundle: refused: $1" >&2; exit 5; }
usage() { echo "usage: $0 --key PUBLIC.pem --to NEW-FOLDER [--for registry|aggregator|node|node,steward|coordinator]" >&2; exit 2; }

key= to= part=
while [ $# -gt 0 ]; do
    case $1 in
        --key) key=${2:?}; shift 2;;
        --to) to=${2:?}; shift 2;;
        --for) part=${2:?}; shift 2;;
        *) usage;;
    esac
done
[ -n "$key" ] && [ -n "$to" ] || usage
case $part in ''|registry|aggregator|node|node,steward|coordinator) ;; *) usage;; esac
[ -r "$key" ] || { echo "bundle: cannot read the public key $key" >&2; exit 2; }
case $key in /*) ;; *) key=$PWD/$key;; esac
case $to in /*) ;; *) to=$PWD/$to;; esac
if [ -e "$to" ] && [ -n "$(ls -A "$to")" ]; then
    echo "bundle: $to holds something; name a new folder, and switch to it afterwards" >&2; exit 2
fi
cd "$(dirname "$0")"

openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig \
    >/dev/null 2>&1 || refuse "SHA256SUMS is not signed by $key: another key, or a changed list"
sha256sum --check --strict --quiet SHA256SUMS >&2 \
    || refuse "the files named above are missing or changed; copy the bundle anew"
listed=$(cut -c67- SHA256SUMS | sort)
present=$(find . ! -type d ! -path ./SHA256SUMS ! -path ./SHA256SUMS.sig | cut -c3- | sort)
[ "$listed" = "$present" ] || refuse "there are files that the signed list does not name"

wanted=$(pwd -P | sed -n 's/.*-cp\(3\)\([0-9]*\)-.*/\1.\2/p')
python=${PYTHON:-python${wanted:-3}}
"$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' \
    2>/dev/null || { echo "bundle: $python is not Python ${wanted:-3.11 or 3.12} with venv; name one by PYTHON=" >&2; exit 2; }

"$python" -m venv "$to"
pip() { "$to/bin/python" -m pip --isolated --disable-pip-version-check "$@"; }
if [ -n "$part" ]; then
    # Every wheel here has just been verified, and there is one version of each.
    set -- "accord[$part]"
else
    set -- --no-deps --require-hashes --requirement requirements.txt
fi
pip install --quiet --no-index --find-links wheels "$@" \
    || { rm -rf "$to"; refuse "pip could not install it (above): is this bundle for this Python and machine?"; }
pip check >&2
echo "Accord is in $to; try: $to/bin/accord --help"
