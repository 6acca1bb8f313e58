/** A failure that set-up explains itself: its message is shown without a stack. */
export class SetupError extends Error {
  /** @override */
  name = 'SetupError'
}
