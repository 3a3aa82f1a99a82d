/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* tdvol-blockd has one: its sealing key. */
static struct secret inherited_secret;

static bool lock_pages(const struct secret *s, bool inherited, struct error *err)
{
    if (mlock(s->bytes, s->mapped) != 0) {
        int sys_errno = errno;

        error_set(err, ERROR_RESOURCE_EXHAUSTED,
                  "cannot lock %zu bytes of key memory (%s): raise RLIMIT_MEMLOCK (ulimit -l, "
                  "LimitMEMLOCK=)",
                  s->mapped, strerrordesc_np(sys_errno));
        err->sys_errno = sys_errno;
        return false;
    }
    if (madvise(s->bytes, s->mapped, MADV_DONTDUMP) != 0)
        return error_set_errno(err, errno, "keep key memory out of core dumps");
    if (!inherited && madvise(s->bytes, s->mapped, MADV_WIPEONFORK) != 0)
        return error_set_errno(err, errno, "keep key memory from forked children");
    return true;
}

static bool allocate(struct secret *out, size_t len, bool inherited, struct error *err)
{
    if (len == 0 || len > SECRET_LEN_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "a secret has 1 to %zu bytes, not %zu",
                         SECRET_LEN_MAX, len);

    size_t mapped = round_up_u64(len, (uint64_t)sysconf(_SC_PAGESIZE));
    void *pages = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        int sys_errno = errno; /* EAGAIN: mlockall() is in force and the limit is reached */

        error_set_errno(err, sys_errno, "map %zu bytes of key memory (is RLIMIT_MEMLOCK too low?)",
                        mapped);
        err->code = ERROR_RESOURCE_EXHAUSTED;
        return false;
    }

    struct secret s = { .bytes = pages, .len = len, .mapped = mapped };
    if (!lock_pages(&s, inherited, err)) {
        secret_wipe(&s);
        return false;
    }
    *out = s;
    return true;
}

bool secret_alloc(struct secret *out, size_t len, struct error *err)
{
    return allocate(out, len, false, err);
}

bool secret_alloc_inherited(struct secret *out, size_t len, struct error *err)
{
    if (!allocate(out, len, true, err))
        return false;
    inherited_secret = *out;
    return true;
}

void secret_forget_inherited(void)
{
    /* The pages are shared with the parent until one side writes: they are taken away, not wiped. */
    if (inherited_secret.bytes)
        (void)munmap(inherited_secret.bytes, inherited_secret.mapped);
    inherited_secret = (struct secret)SECRET_INIT;
}

bool secret_random(struct secret *out, size_t len, struct error *err)
{
    auto_secret struct secret s = SECRET_INIT;

    if (!secret_alloc(&s, len, err))
        return false;
    for (size_t done = 0; done < len;) {
        ssize_t n = getrandom(s.bytes + done, len - done, 0);

        if (n < 0 && errno != EINTR)
            return error_set_errno(err, errno, "read random bytes");
        if (n > 0)
            done += (size_t)n;
    }
    *out = secret_take(&s);
    return true;
}

void secret_wipe(struct secret *s)
{
    if (s->bytes) {
        if (s->bytes == inherited_secret.bytes)
            inherited_secret = (struct secret)SECRET_INIT;
        bytes_wipe(s->bytes, s->mapped);
        (void)munmap(s->bytes, s->mapped);
    }
    *s = (struct secret)SECRET_INIT;
}

bool bytes_are_equal(const void *a, const void *b, size_t len)
{
    return len == 0 || CRYPTO_memcmp(a, b, len) == 0;
}

void bytes_wipe(void *bytes, size_t len)
{
    if (len > 0)
        explicit_bzero(bytes, len);
}

/*
 * Under a finite limit, MCL_FUTURE makes a later mmap() fail, for example of a thread's stack. So
 * everything is locked only when there is no limit.
 */
static bool lock_process(struct error *err)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return error_set_errno(err, errno, "read RLIMIT_MEMLOCK");
    if (limit.rlim_cur != limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
            return error_set_errno(err, errno, "raise RLIMIT_MEMLOCK to its hard limit");
    }
    if (limit.rlim_cur == RLIM_INFINITY)
        (void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
    return true;
}

bool secret_harden_process(struct error *err)
{
    const struct rlimit no_core = { 0, 0 };

    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "make the process not dumpable");
    if (setrlimit(RLIMIT_CORE, &no_core) != 0)
        return error_set_errno(err, errno, "forbid core dumps");
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return error_set_errno(err, errno, "ignore SIGPIPE");
    (void)umask(077);
    (void)mallopt(M_PERTURB, 0xA5); /* overwrites freed memory */
    return lock_process(err);
}
