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
