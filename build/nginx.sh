# Which nginx cargo builds against. Read with `. build/nginx.sh`, after build/lib.sh.
# shellcheck shell=sh

# The nginx of `vendored` has the modules that t/, the demo and the proofs use. (The crate adds
# compat, http_ssl, http_v2 and with it grpc, realip, stream and threads by itself.) Like Debian's
# it logs to stderr until its configuration says otherwise. A change here builds nginx anew.
: "${NGX_CONFIGURE_ARGS=--with-http_stub_status_module --with-http_auth_request_module --error-log-path=stderr}"
export NGX_CONFIGURE_ARGS

# Sets the environment and $features for cargo. $1 is vendored, debian or tree.
# Each nginx has a target directory of its own, so that they do not undo each other's work.
use_nginx() {
    target=${CARGO_TARGET_DIR:-target}
    features=http${FEATURES:+,$FEATURES}
    case $1 in
        vendored)
            # These would win over the feature.
            unset NGINX_SOURCE_DIR NGINX_BUILD_DIR
            features=$features,vendored
            return
            ;;
        debian)
            sh build/nginx-debian.sh
            NGINX_SOURCE_DIR=$target/debian/nginx/src
            NGINX_BUILD_DIR=$target/debian/nginx/objs
            CARGO_TARGET_DIR=$target/debian
            ;;
        tree)
            : "${NGINX_BUILD_DIR:=${NGINX_SOURCE_DIR:?}/objs}"
            : "${NGINX_SOURCE_DIR:=$(dirname "$NGINX_BUILD_DIR")}"
            CARGO_TARGET_DIR=$target/tree-$(absolute "$NGINX_BUILD_DIR" | cksum | cut -d' ' -f1)
            ;;
        *) out_of "$1" ;;
    esac
    NGINX_SOURCE_DIR=$(absolute "$NGINX_SOURCE_DIR")
    NGINX_BUILD_DIR=$(absolute "$NGINX_BUILD_DIR")
    export NGINX_SOURCE_DIR NGINX_BUILD_DIR CARGO_TARGET_DIR
    [ -f "$NGINX_SOURCE_DIR/src/core/nginx.h" ] || die "NGINX_SOURCE_DIR=$NGINX_SOURCE_DIR holds no nginx"
    [ -f "$NGINX_BUILD_DIR/ngx_auto_config.h" ] || die "NGINX_BUILD_DIR=$NGINX_BUILD_DIR is not configured"
}
