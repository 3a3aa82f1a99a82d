/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/renewal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <stdlib.h>
#include <string.h>

struct renewal {
    struct renewal_options options;

    /* Of the thread. */
    struct credential_stamp stamp;  /* of the files in use */
    struct credential_stamp failed; /* of files that are not usable */
    bool has_told;                  /* of those */

    struct stoppable loop; /* its lock guards what follows */
    int64_t ca_until_s, certificate_until_s;
};

static void note(struct renewal *r, const struct credentials *c)
{
    (void)pthread_mutex_lock(&r->loop.lock);
    r->ca_until_s = c->ca_until_s;
    r->certificate_until_s = c->certificate_until_s;
    (void)pthread_mutex_unlock(&r->loop.lock);
    metrics_certificate(r->options.metrics, METRICS_BROKER_CA, c->ca_until_s);
    if (c->certificate_until_s != 0)
        metrics_certificate(r->options.metrics, METRICS_CLIENT_CERT, c->certificate_until_s);
}

static bool is_over(int64_t until_s)
{
    return until_s != 0 && until_s <= (int64_t)(clock_wall_ms() / 1000);
}

static bool take(struct renewal *r, struct error *err)
{
    auto_credentials struct credentials c = { .key = SECRET_INIT };

    if (!credentials_read(&r->options.files, &c, err))
        return false;
    if (is_over(c.ca_until_s) || is_over(c.certificate_until_s))
        return error_set(err, ERROR_FAILED_PRECONDITION, "--%s: the certificate's time is over",
                         is_over(c.ca_until_s) ? "broker-ca" : "client-cert");
    if (!r->options.use(r->options.cookie, &c, err))
        return false;
    note(r, &c);
    r->stamp = c.stamp;
    return true;
}

static void look(struct renewal *r)
{
    struct credential_stamp stamp = credentials_stamp(&r->options.files);
    struct error err = ERROR_INIT;

    if (bytes_are_equal(&stamp, &r->stamp, sizeof(stamp)))
        return;
    bool is_known = bytes_are_equal(&stamp, &r->failed, sizeof(stamp));
    /* What failed may work later without another change. */
    if (take(r, &err)) {
        log_info("the broker's and our certificates were read again");
        return;
    }
    if (is_known && !r->has_told) /* nobody is writing any more */
        log_warning("the new certificates are not used; the old ones stay", ERROR_FIELDS(&err));
    r->has_told = is_known;
    r->failed = stamp;
}

static void *work(void *cookie)
{
    struct renewal *r = cookie;

    (void)pthread_mutex_lock(&r->loop.lock);
    while (!r->loop.is_ending) {
        condition_wait_until(&r->loop.changed, &r->loop.lock,
                             clock_now_ms() + r->options.interval_ms);
        if (r->loop.is_ending)
            break;
        (void)pthread_mutex_unlock(&r->loop.lock);
        look(r);
        (void)pthread_mutex_lock(&r->loop.lock);
    }
    (void)pthread_mutex_unlock(&r->loop.lock);
    return NULL;
}

bool renewal_start(const struct renewal_options *options, const struct credentials *in_use,
                   struct renewal **out, struct error *err)
{
    struct renewal *r = calloc(1, sizeof(*r));

    if (!r)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for certificates");
    r->options = *options;
    r->stamp = in_use->stamp;
    if (!stoppable_start(&r->loop, "certificates", work, r, err)) {
        renewal_stop(r);
        return false;
    }
    note(r, in_use);
    *out = r;
    return true;
}

void renewal_stop(struct renewal *r)
{
    if (!r)
        return;
    stoppable_stop(&r->loop);
    free(r);
}

void renewal_explain(struct renewal *r, struct error *err)
{
    (void)pthread_mutex_lock(&r->loop.lock);
    bool is_certificate_over = is_over(r->certificate_until_s), is_ca_over = is_over(r->ca_until_s);
    (void)pthread_mutex_unlock(&r->loop.lock);
    if (is_certificate_over)
        error_wrap(err, "the time of --client-cert is over");
    if (is_ca_over)
        error_wrap(err, "the time of --broker-ca is over");
}
