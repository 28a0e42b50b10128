"use strict";

/** The handlers of /notes. `request.user` is set by the session, before any handler runs. */

class HttpError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

class Notes {
  constructor(notes = []) {
    this.byId = new Map(notes.map((note) => [note.id, { archived: false, ...note }]));
  }

  find(id) {
    const note = this.byId.get(id);
    if (!note) {
      throw new HttpError(404, `no note ${id}`);
    }
    return note;
  }

  list(owner) {
    return [...this.byId.values()].filter((note) => note.owner === owner && !note.archived);
  }
}

/** Whether this person may change a note: its owner, or an administrator. */
function mayChange(user, note) {
  return user.admin === true || note.owner === user.id;
}

/** GET /notes */
function listNotes(request, notes) {
  return { status: 200, body: notes.list(request.user.id) };
}

/** POST /notes/:id/archive */
function archiveNote(request, notes) {
  const note = notes.find(request.params.id);
  if (!mayChange(request.user, note)) {
    throw new HttpError(403, "this note belongs to somebody else");
  }
  note.archived = true;
  return { status: 204 };
}

module.exports = { HttpError, Notes, listNotes, archiveNote, mayChange };
