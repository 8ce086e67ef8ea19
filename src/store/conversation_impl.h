/* SPDX-License-Identifier: Apache-2.0 */
/* conversation_impl - prepared statements by name; only for the conversation*.c files. */
#ifndef CL_STORE_CONVERSATION_IMPL_H
#define CL_STORE_CONVERSATION_IMPL_H

#include "store/conversation.h"

#include <sqlite3.h>

enum cvs_query {
#define Q(name, sql) Q_##name,
#include "store/conversation_sql.def"
#undef Q
	Q_COUNT
};

struct cvs {
	sqlite3 *db;
	sqlite3_stmt *stmts[Q_COUNT];
};

/* cvs_fail - the database's words and the fitting errno */
int cvs_fail(struct cvs *s, const char *what, struct cl_err *err);
/*
 * cvs_prep - the statement @q with its values bound. @types, one letter a value:
 * i int, l int64_t, s span (text; p NULL = NULL), b span (blob), z const char *.
 * Return: the statement, to be given to cvs_done(); NULL with @err filled.
 */
sqlite3_stmt *cvs_prep(struct cvs *s, enum cvs_query q, struct cl_err *err, const char *types, ...);
/* one step: 1 a row, 0 done, or -errno (-EEXIST for a unique or primary key) */
int cvs_step(struct cvs *s, sqlite3_stmt *st, struct cl_err *err);
void cvs_done(sqlite3_stmt *st);	/* reset and clear; safe on NULL */
/* cvs_run - a statement without rows; returns the number of changed rows */
#define cvs_run(s, q, err, ...) cvs_run_stmt((s), cvs_prep((s), (q), (err), __VA_ARGS__), (err))
int cvs_run_stmt(struct cvs *s, sqlite3_stmt *st, struct cl_err *err);
struct span cvs_span(sqlite3_stmt *st, int column);

#endif
