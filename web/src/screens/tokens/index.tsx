import { Screen } from "@/components/Screen";
import { EmptyState } from "@/components/States";
import { useText } from "@/i18n";

export default function Tokens() {
  const text = useText();
  return (
    <Screen title={text.screens.tokens}>
      <EmptyState title={text.app.notBuilt} />
    </Screen>
  );
}
