/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "plugin/background.h"

/* Watches staged volumes in the background: keeps their health up to date, and renews their leases. */
struct watch;
MUST_USE bool watch_start(const struct plugin *plugin, struct watch **out, struct error *err);
void watch_stop(struct watch *watch); /* waits for its threads; NULL is allowed */
