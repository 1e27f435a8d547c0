import { Button, Menu } from "@mantine/core";
import { IconBooks, IconCheck } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useText } from "@/i18n";
import { collectionsOf, keepCollections } from "./preferences";
import { collectionsQuery } from "./queries";

/** Which documents the questions are answered from; nothing where there are none. */
export function CollectionPicker({ session }: { session: string }) {
  const text = useText();
  const { data: names = [] } = useQuery(collectionsQuery);
  const [chosen, setChosen] = useState(() => collectionsOf(session));
  const here = chosen.filter((name) => names.includes(name));
  if (names.length === 0) return null;
  const toggle = (name: string) => {
    const next = here.includes(name) ? here.filter((one) => one !== name) : [...here, name];
    setChosen(next);
    keepCollections(session, next);
  };
  const label =
    here.length === 0 ? text.chat.collections : here.length === 1 ? here[0] : text.chat.allInOne(here.length);
  return (
    <Menu position="top-start" closeOnItemClick={false} shadow="md">
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
        {names.map((name) => (
          <Menu.Item
            key={name}
            role="menuitemcheckbox"
            aria-checked={here.includes(name)}
            leftSection={<IconCheck size={15} style={{ visibility: here.includes(name) ? "visible" : "hidden" }} />}
            onClick={() => toggle(name)}
          >
            {name}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}
