/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "plugin/background.h"

/* Watches staged volumes in the background and keeps their health up to date. */
MUST_USE bool watch_start(const struct plugin *plugin, struct background **out, struct error *err);
