/** Options that most networks have. */
import { described, integer } from '../checks/options.js'

export const classes = described(integer(1), 'Number of classes. Default: as many as the data has.')

export const inChannels = described(integer(1), 'Channels of the pictures. Default: those of the data.')

/** Of networks whose number of layers is an option. */
export function depth(rule: string) {
  return described(integer(1), `Number of layers with weights: ${rule}.`, { isRequired: true })
}

export const widenFactor = described(integer(1), "Factor of the stages' channels.", { isRequired: true })
