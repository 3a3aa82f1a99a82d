/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * For long-lived processes, once they are ready: gives back what only the start needed. Dynamic
 * linking and the set-up of large libraries touch most of their code, symbols and relocations once;
 * those pages are clean copies of files and come back by themselves when they are needed. Without
 * it they are counted, and with mlockall() locked, for ever. Heap that is free is returned, too.
 */
void footprint_settle(void);
