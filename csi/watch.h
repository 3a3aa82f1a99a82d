/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "csi/plugin.h"

/*
 * Watches staged volumes in the background and keeps their health up to date. Has a thread; starts
 * its worker again when that ends.
 */
struct watch;

/* The plugin must outlive it. */
MUST_USE bool watch_start(const struct plugin *plugin, struct watch **out, struct error *err);
void watch_stop(struct watch *watch); /* waits for the thread; NULL is allowed */

/* How long to wait before a watcher that ended is started again: twice as long as last time (0: the
 * first time), up to a minute; not so long when it had lived. */
uint64_t watch_retry_ms(uint64_t last_ms, uint64_t lived_ms);
