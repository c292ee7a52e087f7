// A stage that does nothing, in a thread of its own: what is left is the way there and back.
import type { StageModule } from '../src/forward/index.js'

const start: StageModule = () => () => undefined
export default start
