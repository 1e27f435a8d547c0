import { Button, Menu } from "@mantine/core";
import { IconBooks, IconCheck } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useText } from "@/i18n";
import { collectionsOf, keepCollections } from "./preferences";
import { collectionsQuery, personasQuery } from "./queries";

const NONE: readonly string[] = [];

interface Props {
  session: string;
  persona: string | null;
}

/** Which documents the questions are answered from; nothing where there are none. Unset, it is what the persona has. */
export function CollectionPicker({ session, persona }: Props) {
  const text = useText();
  const { data: names = NONE } = useQuery(collectionsQuery);
  const { data: personas = [] } = useQuery(personasQuery);
  const [chosen, setChosen] = useState(() => collectionsOf(session));
  const brought = personas.find((one) => one.name === persona)?.collections ?? NONE;
  const here = chosen ?? brought;
  // What was chosen and is gone would be refused: it stays in sight, to be taken off.
  const all = [...names, ...here.filter((name) => !names.includes(name))];
  if (all.length === 0) return null;
  const toggle = (name: string) => {
    const next = here.includes(name) ? here.filter((one) => one !== name) : [...here, name];
    const kept = next.length === 0 && brought.length === 0 ? null : next;
    setChosen(kept);
    keepCollections(session, kept);
  };
  const label =
    here.length === 0 ? text.chat.collections : here.length === 1 ? here[0] : text.chat.allInOne(here.length);
  return (
    <Menu position="top-start" shadow="md">
      <Menu.Target>
        <Button
          size="compact-md"
          radius="xl"
          variant={here.length === 0 ? "subtle" : "light"}
          color={here.length === 0 ? "gray" : "celadon"}
          leftSection={<IconBooks size={16} stroke={1.6} />}
        >
          {label}
        </Button>
      </Menu.Target>
      <Menu.Dropdown mah={320} style={{ overflowY: "auto" }}>
        {all.map((name) => (
          <Menu.CheckboxItem
            key={name}
            checked={here.includes(name)}
            checkIcon={<IconCheck size={15} />}
            onChange={() => toggle(name)}
          >
            {name}
          </Menu.CheckboxItem>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}
