/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "csi/plugin.h"

/*
 * Watches staged volumes in the background: keeps their health up to date, and finishes the
 * initialisation of those that are complete. Has two threads; starts its worker again when that
 * ends.
 */
struct watch;

/* The plugin must outlive it. */
MUST_USE bool watch_start(const struct plugin *plugin, struct watch **out, struct error *err);
void watch_stop(struct watch *watch); /* waits for both threads; NULL is allowed */
