# Read by the other scripts here: system packages, where they may be installed without asking anybody.

say() {
    printf '%s\n' "gpumon: $*" >&2
}

# as_root COMMAND...: run it as root, or fail at once where that would need a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    command -v apt-get >/dev/null && as_root true 2>/dev/null
}

# install_packages NAME...: by apt. The lists of packages are fetched anew: those of an image may be empty or stale.
# What apt says is shown where it fails.
install_packages() {
    may_install || return 1
    say "installing $* (apt)"
    log=$(mktemp)
    if as_root apt-get -qq update >"$log" 2>&1 &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq install --yes --no-install-recommends "$@" >>"$log" 2>&1; then
        rm "$log"
    else
        cat "$log" >&2
        rm "$log"
        return 1
    fi
}

# unpack_package NAME FOLDER: what is in a package, without installing it. What it needs itself must be here.
unpack_package() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    say "unpacking $1 (apt)"
    fetched=$(mktemp -d)
    log=$fetched/log
    result=0
    as_root apt-get -qq update >"$log" 2>&1 || true # the lists that are here may do
    (cd "$fetched" && apt-get -qq download "$1") >>"$log" 2>&1 && mkdir -p "$2" &&
        dpkg-deb --extract "$fetched"/*.deb "$2" >>"$log" 2>&1 || result=1
    [ "$result" -eq 0 ] || cat "$log" >&2
    rm -r "$fetched"
    return "$result"
}
