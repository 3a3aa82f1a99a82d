/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "csi/plugin.h"

/*
 * Follows what happens to staged volumes without anybody asking: keeps their health, and finishes
 * those that are initialised. Two threads; a worker that ends is started again.
 */
struct watch;

/* The plugin must outlive it. */
MUST_USE bool watch_start(const struct plugin *plugin, struct watch **out, struct error *err);
void watch_stop(struct watch *watch); /* waits for both threads; NULL is allowed */
