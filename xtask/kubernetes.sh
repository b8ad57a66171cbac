#!/bin/sh
# Builds kube-apiserver and kube-scheduler 1.20 from Debian's source package, which has all that it needs, with Debian's Go 1.19.
# usage: kubernetes.sh FOLDER        about 8 minutes of processor time and 3 GB; the system's own lists of packages stay as they are
set -eu
mkdir -p "$1/lists/partial"
cd "$1"
HERE=$PWD
URI=$(grep -hE '^URIs:' /etc/apt/sources.list.d/debian.sources 2>/dev/null | awk '{print $2; exit}')
[ -n "$URI" ] || URI=$(awk '/^deb /{print $2; exit}' /etc/apt/sources.list)
echo "deb-src $URI bookworm main" >source.list
apt() {
  apt-get -o Dir::Etc::SourceList="$HERE/source.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$HERE/lists" "$@"
}
apt -qq update
apt -qq source --download-only kubernetes
tar xf kubernetes_*.orig.tar.gz
cd kubernetes-1.20.2
export PATH="/usr/lib/go-1.19/bin:$PATH" GOPATH="$PWD/.go" HOME="$HERE/home" CGO_ENABLED=0 GOPROXY=off
export KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 KUBE_GIT_COMMIT=0 KUBE_GIT_TREE_STATE=clean
mkdir -p .go/src/k8s.io "$HOME"
ln -sfn ../../.. .go/src/k8s.io/kubernetes
make WHAT="cmd/kube-apiserver cmd/kube-scheduler"
cp _output/bin/kube-apiserver _output/bin/kube-scheduler "$HERE"
cd "$HERE"
chmod -R u+w kubernetes-1.20.2
rm -rf kubernetes-1.20.2 home
