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
install_packages() {
    may_install || return 1
    say "installing $*"
    as_root apt-get -qq update &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "$@" >&2
}
