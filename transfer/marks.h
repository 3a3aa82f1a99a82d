/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Marks of raise (store/store.h) by which a store says whether it may be used. A broker reads them when it
 * has unlocked the store.
 */
#define MIGRATED_MARK "migrated" /* 1: another store is used in its place */
