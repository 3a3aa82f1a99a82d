/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "plugin/plugin.h"

/*
 * Renews the leases of staged volumes. The watcher (plugin/watch.h) says which one is due, and says so again
 * until it was renewed. So nothing is kept here but what waits for a thread. Thread-safe.
 */
struct lease_keeper;

MUST_USE bool lease_keeper_start(const struct plugin *plugin, struct lease_keeper **out,
                                 struct error *err);
/* Waits for the calls in flight; NULL is allowed. */
void lease_keeper_stop(struct lease_keeper *keeper);

/* The lease of the volume is due. Never waits; does nothing while the volume waits already. */
void lease_keeper_due(struct lease_keeper *keeper, const char *volume_id);
