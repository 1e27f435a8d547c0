import { MultiSelect } from "@mantine/core";

interface Props {
  label: string;
  description?: string;
  models: readonly string[];
  most: number;
  value: readonly string[];
  onChange: (names: string[]) => void;
}

/** Several models by name, in the order in which they were chosen. Who uses it brings the styles of its pills. */
export function ModelsPicker({ label, description, models, most, value, onChange }: Props) {
  return (
    <MultiSelect
      label={label}
      description={description}
      data={[...models]}
      value={[...value]}
      onChange={onChange}
      maxValues={most}
      searchable
      hidePickedOptions
      maxDropdownHeight={320}
    />
  );
}
